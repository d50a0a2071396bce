"""A lease in Redis: of several processes, one does a task at a time."""

from secrets import token_hex
from time import monotonic
from typing import Final

from server.redis.client import RedisClient

_COMMAND_SECONDS: Final = 1.0

_HOLD: Final = b"""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE: Final = b"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class Lease:
    """Holds `key` for `seconds` at a time; no other process then holds it."""

    def __init__(self, redis: RedisClient, key: bytes, seconds: float) -> None:
        self._redis = redis
        self._key = key
        self._seconds = seconds
        self._holder = token_hex(16).encode()
        self._until = 0.0

    async def hold(self) -> bool:
        """Take the lease or prolong it; return whether this process holds it.

        Raises `RedisDown`, `RedisError` or TimeoutError.
        """
        asked_at = monotonic()
        arguments = (1, self._key, self._holder, round(self._seconds * 1000))
        is_held = await self._redis.execute(b"EVAL", _HOLD, *arguments, seconds=_COMMAND_SECONDS)
        self._until = asked_at + self._seconds if is_held else 0.0
        return bool(is_held)

    @property
    def is_held(self) -> bool:
        """Return whether this process holds the lease now, also after it was stopped for a time."""
        return monotonic() < self._until

    async def release(self) -> None:
        """Let another process take the lease at once. Raises like `hold`."""
        self._until = 0.0
        arguments = (1, self._key, self._holder)
        await self._redis.execute(b"EVAL", _RELEASE, *arguments, seconds=_COMMAND_SECONDS)

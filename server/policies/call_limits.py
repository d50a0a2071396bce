"""The limit of calls: no session while a patient's minutes are used up, or a call cannot be ended.

The call monitor publishes what is decided here as plain data, a `CallState`, which processes share
through Redis; the one that holds the lease reads the calls.
"""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from math import ceil
from secrets import token_hex
from time import monotonic, time
from typing import Any, Final

import msgspec

from middlewares.context import Clock
from middlewares.errors import ApiError, ErrorCode
from server.policies.revocations import PatientNames
from server.redis.client import RedisClient

CheckCallLimit = Callable[[str], None]
"""Takes a patient id. Raises `ApiError` CALL_LIMIT_REACHED when no session may be started."""


class CallState(msgspec.Struct, frozen=True):
    """What sessions need to know of calls. Patients have the names of the keys in Redis.

    `used_up` has the patients whose minutes are used up, and when some are free again, in seconds
    since the epoch; `unendable` those with a call that should end and cannot be ended. With
    `stands_still` calls cannot be read: who was refused stays refused.
    """

    used_up: dict[str, float] = {}
    unendable: frozenset[str] = frozenset()
    stands_still: bool = False


class CallLimits:
    """Refuses sessions by the `state` that was published last; `clock` as in `Clock`."""

    def __init__(self, names: PatientNames, *, clock: Clock = time) -> None:
        self.state = CallState()
        self._names = names
        self._clock = clock

    def check(self, patient_id: str) -> None:
        """Refuse a patient by the present state: a `CheckCallLimit`."""
        state = self.state
        if not state.used_up and not state.unendable:
            return
        for name in (each.decode() for each in self._names.all(patient_id)):
            if name in state.unendable:
                details = "A call of this patient should end and cannot be ended"
                raise ApiError(ErrorCode.CALL_LIMIT_REACHED, details)
            wait = state.used_up.get(name, 0) - self._clock()
            if wait > 0 or (state.stands_still and name in state.used_up):
                details = "The minutes of the last 24 hours are used up"
                raise ApiError(
                    ErrorCode.CALL_LIMIT_REACHED, details, retry_after=max(1, ceil(wait))
                )


_LEASE_KEY: Final = b"{vapi-sessions}:calls:lease"
_STATE_KEY: Final = b"{vapi-sessions}:calls:state"
_FIRST_KEY: Final = b"{vapi-sessions}:calls:first-reading"
_COMMAND_SECONDS: Final = 1.0
_DAY_SECONDS: Final = 86400
_PIECE_BYTES: Final = 32768
"""Redis's answers have at most 64 KiB."""
_DIGEST_BYTES: Final = 64

_FIRST: Final = b"""
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('GET', KEYS[1])
"""


class Snapshot(msgspec.Struct, frozen=True):
    """A state and when it was published, in seconds since the epoch."""

    state: CallState
    at: float


_decode: Final = msgspec.json.Decoder(Snapshot).decode


class SharedCalls:
    """What the reading process shares through Redis: the state, and when the first reading was.

    All methods raise `RedisDown`, `RedisError` or TimeoutError.
    """

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def first_reading(self, date: float) -> float:
        """Return the date of the first reading of the last day: this one if there was none."""
        arguments = (1, _FIRST_KEY, repr(date), _DAY_SECONDS)
        return float(await self._execute(b"EVAL", _FIRST, *arguments))

    async def publish(self, snapshot: Snapshot) -> None:
        """Publish a state, and let the date of the first reading last for another day."""
        body = msgspec.json.encode(snapshot)
        value = _digest(body) + body
        await asyncio.gather(
            self._execute(b"SET", _STATE_KEY, value, b"EX", _DAY_SECONDS),
            self._execute(b"EXPIRE", _FIRST_KEY, _DAY_SECONDS),
        )

    async def load(self) -> Snapshot | None:
        """Return what was published last.

        None without it, when it changed while it was read, or when it cannot be read.
        """
        value = part = await self._piece(0)
        while len(part) == _PIECE_BYTES:
            part = await self._piece(len(value))
            value += part
        digest, body = value[:_DIGEST_BYTES], value[_DIGEST_BYTES:]
        if digest != _digest(body):
            return None
        try:
            return _decode(body)
        except msgspec.DecodeError:  # of another version
            return None

    async def _piece(self, start: int) -> bytes:
        end = start + _PIECE_BYTES - 1
        return bytes(await self._execute(b"GETRANGE", _STATE_KEY, start, end))

    async def _execute(self, *command: Any) -> Any:
        return await self._redis.execute(*command, seconds=_COMMAND_SECONDS)


def _digest(body: bytes) -> bytes:
    """Return what shows that all pieces of a value belong together."""
    return sha256(body).hexdigest().encode()


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
    """One process at a time holds it, for `seconds` unless prolonged: the one that reads calls."""

    def __init__(self, redis: RedisClient, seconds: float) -> None:
        self._redis = redis
        self._seconds = seconds
        self._holder = token_hex(16).encode()
        self._until = 0.0

    async def hold(self) -> bool:
        """Take the lease or prolong it; return whether this process holds it.

        Raises `RedisDown`, `RedisError` or TimeoutError.
        """
        asked_at = monotonic()
        arguments = (1, _LEASE_KEY, self._holder, round(self._seconds * 1000))
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
        arguments = (1, _LEASE_KEY, self._holder)
        await self._redis.execute(b"EVAL", _RELEASE, *arguments, seconds=_COMMAND_SECONDS)

"""Replays of DPoP proofs (RFC 9449 section 11.1): each proof is accepted once."""

from collections import OrderedDict
from hashlib import sha256
from secrets import token_bytes
from time import monotonic
from typing import Final

from middlewares.authentication import UseProof
from middlewares.context import Clock
from middlewares.errors import ApiError, ErrorCode
from server.redis.client import RedisClient
from server.redis.connection import RedisDown, RedisError

REMEMBERED_SECONDS: Final = 120
"""The `iat` of a proof may be 60 seconds early or late, so it is valid for 120 seconds at most."""

MAX_REMEMBERED: Final = 100_000

_PREFIX: Final = b"{vapi-sessions}:dpop:"


def _digest(proof_id: str, key_thumbprint: str) -> bytes:
    """Return a hash of fixed length; a thumbprint contains no dot."""
    return sha256(f"{key_thumbprint}.{proof_id}".encode()).digest()


class InMemoryReplays:
    """Remembers proofs in the process; `clock` returns seconds.

    All are remembered for the same time, so the oldest are the first to be forgotten.
    """

    def __init__(self, *, clock: Clock = monotonic, max_remembered: int = MAX_REMEMBERED) -> None:
        self._clock = clock
        self._max_remembered = max_remembered
        self._until: OrderedDict[bytes, float] = OrderedDict()

    async def use(self, proof_id: str, key_thumbprint: str) -> bool:
        """Remember a proof: a `UseProof`."""
        now, digest = self._clock(), _digest(proof_id, key_thumbprint)
        self._forget(now)
        if digest in self._until:
            return False
        if len(self._until) >= self._max_remembered:
            raise _unavailable("Too many DPoP proofs at once; try again")
        self._until[digest] = now + REMEMBERED_SECONDS
        return True

    def _forget(self, now: float) -> None:
        while self._until and next(iter(self._until.values())) < now:
            self._until.popitem(last=False)


class RedisReplays:
    """Remembers proofs in Redis, for all processes.

    A proof that Redis does not remember within `seconds` is remembered by `fallback`, or rejected
    without one.
    """

    def __init__(self, redis: RedisClient, *, seconds: float, fallback: UseProof | None) -> None:
        self._redis = redis
        self._seconds = seconds
        self._fallback = fallback

    async def use(self, proof_id: str, key_thumbprint: str) -> bool:
        """Remember a proof: a `UseProof`."""
        try:
            return await self._set(_PREFIX + _digest(proof_id, key_thumbprint).hex().encode())
        except (RedisDown, RedisError, TimeoutError):
            if self._fallback is not None:
                return await self._fallback(proof_id, key_thumbprint)
        raise _unavailable("The list of used DPoP proofs is not available; try again")

    async def _set(self, key: bytes) -> bool:
        """Set the key if it does not exist; return whether this call has set it.

        A command is sent again after a lost connection, so the key may exist because this call has
        set it before. Its random value tells.
        """
        value = token_bytes(16)
        command = (b"SET", key, value, b"NX", b"EX", REMEMBERED_SECONDS)
        if await self._redis.execute(*command, seconds=self._seconds) is not None:
            return True
        (present,) = await self._redis.execute(b"MGET", key, seconds=self._seconds)
        return bool(present == value)


def _unavailable(details: str) -> ApiError:
    return ApiError(ErrorCode.AUTH_UNAVAILABLE, details, retry_after=1)

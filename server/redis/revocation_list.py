"""Tokens and patients whose access has ended: entries in Redis that leave by themselves."""

from collections.abc import Callable, Iterator
from typing import Final

from middlewares.api_errors import ApiError, ErrorCode
from middlewares.request_context import Principal
from middlewares.revocation import IsRevoked
from server.redis.client import RedisClient, RedisUnavailable

_OPERATOR_SECONDS: Final = 5.0
"""How long somebody at a command line waits for Redis."""


def token_key(token_id: str) -> bytes:
    """Name the entry of a token by its `jti`, which may hold any text a JSON string can."""
    return b"vapi-sessions:revoked:jti:" + token_id.encode("utf-8", "surrogatepass")


def patient_key(patient_id: str) -> bytes:
    """Name the entry of a patient."""
    return b"vapi-sessions:revoked:patient:" + patient_id.encode()


async def revoke_in(url: str, key: bytes, seconds: int) -> bool:
    """Enter a key into the list, for so many seconds; tell whether Redis took it."""
    link = RedisClient(url, timeout=_OPERATOR_SECONDS)
    try:
        await link.ask(lambda: link.client.set(key, b"1", ex=seconds))
    except RedisUnavailable:
        return False
    finally:
        await link.close()
    return True


def make_revocation_check(
    link: RedisClient, *, serve_without: bool, on_failure: Callable[[], None]
) -> IsRevoked:
    """Make what asks the list about a caller, in one round trip.

    While Redis is gone, `serve_without` lets everybody pass, else nobody; `on_failure` is told.
    """

    async def is_revoked(principal: Principal) -> bool:
        keys = list(_keys_of(principal))
        if not keys:
            return False
        try:
            entries = await link.ask(lambda: link.client.mget(keys))
        except RedisUnavailable:
            on_failure()
            if serve_without:
                return False
            details = "The revocation list cannot be reached; try again"
            raise ApiError(ErrorCode.AUTH_UNAVAILABLE, details, retry_after=1) from None
        return any(entry is not None for entry in entries)

    return is_revoked


def _keys_of(principal: Principal) -> Iterator[bytes]:
    if principal.token_id is not None:
        yield token_key(principal.token_id)
    if principal.patient_id is not None:
        yield patient_key(principal.patient_id)

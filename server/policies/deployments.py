"""Which deployments use this database of Redis: in one, two clinics share limits and revocations.

Each deployment has an entry in a sorted set, with the time at which it is forgotten as its score.
"""

import asyncio
import hashlib
import json
from time import time
from typing import Final

from server.config import Settings
from server.redis.connection import Argument, Execute, RedisDown, RedisFailure, execute_once

DEPLOYMENTS_KEY: Final = b"{vapi-sessions}:deployments"

_REMEMBERED_SECONDS: Final = 2 * 86400
_INTERVAL_SECONDS: Final = 6 * 3600.0
_RETRY_SECONDS: Final = 60.0
_COMMAND_SECONDS: Final = 1.0
_REGISTER: Final = b"""
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return #redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], '+inf')
"""
_WARNING: Final = (
    "REDIS_URL: a deployment with another identity provider or organization uses this database, so "
    "the two share rate limits, revocations and pauses; give each a database of its own (ignore "
    "this for two days after you have changed these settings)"
)


def _registration(settings: Settings) -> tuple[bytes, *tuple[Argument, ...]]:
    """Return the command that registers this deployment and returns how many there are.

    A deployment is known by its identity provider and its organization at Vapi, without those by
    its assistant; only a hash goes to Redis.
    """
    names = [*sorted(settings.jwt_issuer), settings.jwt_jwks_url, settings.vapi_org_id]
    known_by = names if any(names) else [settings.vapi_assistant_id]
    digest = hashlib.sha256(json.dumps(known_by).encode()).hexdigest()
    now, milliseconds = int(time()), _REMEMBERED_SECONDS * 1000
    until = now + _REMEMBERED_SECONDS
    return (b"EVAL", _REGISTER, 1, DEPLOYMENTS_KEY, digest, now, until, milliseconds)


async def keep_registered(
    settings: Settings, execute: Execute, retry_seconds: float = _RETRY_SECONDS
) -> None:
    """Register this deployment, again and again, until cancelled."""
    while True:
        try:
            await execute(*_registration(settings), seconds=_COMMAND_SECONDS)
            wait = _INTERVAL_SECONDS
        except (RedisDown, *RedisFailure):  # an outage, which the client logs
            wait = retry_seconds
        await asyncio.sleep(wait)


async def find_other_deployments(settings: Settings) -> list[str]:
    """Return a warning if another deployment uses this database, or has within two days."""
    if not settings.redis_url:
        return []
    try:
        count = await execute_once(settings.redis_url, *_registration(settings))
    except RedisFailure:
        return []
    return [] if count == 1 else [_WARNING]

"""Writing and listing revocations: an index names them, since SCAN ignores an ACL's key patterns.

An entry is `jti:…`, `patient:…` or `patient-hmac:…`. The index is a sorted set of the entries by
the time of their end; it is in the same slot as their keys.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from time import time
from typing import Final

from server.redis.connection import execute_once, open_connection

KEY_PREFIX: Final = b"{vapi-sessions}:revoked:"
INDEX_KEY: Final = b"{vapi-sessions}:revocations"

_REVOKE: Final = b"""
redis.call('ZADD', KEYS[2], ARGV[2] + ARGV[1], ARGV[3])
redis.call('SET', KEYS[1], '1', 'EX', ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[2])
return 1
"""
"""Takes the key of an entry and the index; the seconds, the time, and the entry."""

_UNREVOKE: Final = b"""
local removed = 0
for number, entry in ipairs(ARGV) do
    removed = removed + redis.call('DEL', KEYS[number])
    redis.call('ZREM', KEYS[#KEYS], entry)
end
return removed
"""
"""Takes the keys of entries and the index; the entries. Returns how many were revoked."""

_PAGE: Final = b"""
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf',
    'WITHSCORES', 'LIMIT', ARGV[2], 200)
local page, bytes = {}, 0
for row = 1, #rows, 2 do
    bytes = bytes + #rows[row] + 64
    if bytes > 32768 and row > 1 then break end
    page[#page + 1], page[#page + 2] = rows[row], rows[row + 1]
end
return page
"""
"""Takes the index; the time, and the number of entries to skip. Returns entries and their ends."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is revoked, by the id of a token or a patient (or its HMAC), and when that ends."""

    jti: str | None
    patient: str | None
    until: float


def token_entry(token_id: str) -> bytes:
    """Return the entry of a token by its `jti`, which can contain any text of a JSON string."""
    return b"jti:" + token_id.encode("utf-8", "surrogatepass")


async def revoke(url: str, entry: bytes, seconds: int) -> None:
    """Revoke for this time. Raises `RedisFailure`."""
    keys = (KEY_PREFIX + entry, INDEX_KEY)
    await execute_once(url, b"EVAL", _REVOKE, len(keys), *keys, seconds, int(time()), entry)


async def unrevoke(url: str, entries: Sequence[bytes]) -> bool:
    """Lift the revocations; return whether there was one. Raises `RedisFailure`."""
    keys = [*(KEY_PREFIX + entry for entry in entries), INDEX_KEY]
    return bool(await execute_once(url, b"EVAL", _UNREVOKE, len(keys), *keys, *entries))


async def list_revocations(url: str) -> AsyncIterator[Revocation]:
    """Read the index in pages, the first end first. Raises `RedisFailure`."""
    now, skip = int(time()), 0
    async with open_connection(url) as connection:
        while page := await connection.execute(b"EVAL", _PAGE, 1, INDEX_KEY, now, skip):
            for entry, end in zip(page[::2], page[1::2], strict=True):
                yield _revocation(entry, float(end))
            skip += len(page) // 2


def _revocation(entry: bytes, until: float) -> Revocation:
    kind, _, name = entry.decode("utf-8", "surrogatepass").partition(":")
    return Revocation(name, None, until) if kind == "jti" else Revocation(None, name, until)

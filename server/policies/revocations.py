"""Revocations of tokens and patients in Redis: how they are named, written, listed and looked up.

A revocation is an entry `jti:…`, `patient:…` or `patient-hmac:…`, whose key expires by itself. A
sorted set lists the entries by the time of their end, since SCAN ignores an ACL's key patterns.
"""

import hmac
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic, time
from typing import Any, Final

from middlewares.context import Access, Clock, Principal
from middlewares.errors import ApiError, ErrorCode
from server.config import Settings
from server.policies.pause import PAUSE_KEY
from server.policies.rate_limits import RedisLimit
from server.redis.client import PROBE_KEY, RedisClient
from server.redis.connection import (
    Argument,
    Execute,
    RedisDown,
    RedisError,
    RedisReplyError,
    UnexpectedAnswer,
    execute_once,
    open_connection,
)


@dataclass(frozen=True, slots=True)
class PatientNames:
    """The forms in which a patient id can stand in a key.

    New keys have the first. Lookups name all of them, so that what was written before
    `hash_key` was set or replaced still counts.
    """

    hash_key: bytes = b""
    previous_hash_key: bytes = b""

    def current(self, patient_id: str) -> bytes:
        """Return the form that is written."""
        return self.all(patient_id)[0]

    def all(self, patient_id: str) -> list[bytes]:
        """Return all forms, that of new keys first."""
        clear = b"patient:" + patient_id.encode()
        hashed = [
            _hashed(key, patient_id) for key in (self.hash_key, self.previous_hash_key) if key
        ]
        return [*hashed, clear] if self.hash_key else [clear, *hashed]


CLEAR_NAMES: Final = PatientNames()
"""Ids stand in keys as they are."""


def make_patient_names(settings: Settings) -> PatientNames:
    """Return the names that the settings describe."""
    return PatientNames(settings.audit_hash_key, settings.audit_hash_key_previous)


def _hashed(key: bytes, patient_id: str) -> bytes:
    return b"patient-hmac:" + hmac.digest(key, patient_id.encode(), "sha256").hex().encode()


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


_REMEMBERED_SECONDS: Final = 60.0
_MAX_REMEMBERED: Final = 65536
_KEYS_AT_ONCE: Final = 200


class RevocationList:
    """Looks up principals.

    The same command reads the pause, which goes to `record_pause`. It also counts the request with
    `limit`, if `is_counted` is true for the principal.

    An answer later than `seconds`, or an error, rejects the request; an error of the limit alone
    leaves the request uncounted. While Redis is down, a revocation seen in the last minute still
    counts; other requests pass with `serve_without`, else they are rejected. `on_failure` is called
    for each failed lookup.
    """

    def __init__(
        self,
        redis: RedisClient,
        *,
        seconds: float,
        serve_without: bool,
        record_pause: Callable[[bytes | None], None],
        on_failure: Callable[[], None],
        names: PatientNames = CLEAR_NAMES,
        limit: RedisLimit | None = None,
        is_counted: Callable[[Principal], bool],
    ) -> None:
        self._redis = redis
        self._seconds = seconds
        self._serve_without = serve_without
        self._record_pause = record_pause
        self._on_failure = on_failure
        self._names = names
        self._limit = limit
        self._is_counted = is_counted
        self._recent = RecentRevocations()
        redis.probes.append(self._probe)

    async def check_access(self, principal: Principal) -> Access:
        """Look up a principal and count the request, if it counts: a `CheckAccess`."""
        return await self._look_up(principal, self._limit if self._is_counted(principal) else None)

    async def is_revoked(self, principal: Principal) -> bool:
        """Look up a principal. Raises `ApiError` AUTH_UNAVAILABLE."""
        return (await self._look_up(principal, None)).revoked

    async def _look_up(self, principal: Principal, limit: RedisLimit | None) -> Access:
        token_id, patient_id = principal.token_id, principal.patient_id
        names = [] if patient_id is None else self._names.all(patient_id)
        entries = names if token_id is None else [token_entry(token_id), *names]
        keys = [PAUSE_KEY, *[KEY_PREFIX + entry for entry in entries]]
        try:
            (pause, *values), wait = await self._ask(keys, limit, names)
        except (RedisDown, RedisError, TimeoutError) as error:
            access = Access(self._is_revoked_without_answer(keys[1:], error))
        else:
            self._record_pause(pause)
            revoked = self._recent.record(keys[1:], values)
            access = _access(wait, revoked=revoked)
        if limit is not None and not access.revoked and not access.counted:
            limit.on_failure()
        return access

    async def _ask(
        self, keys: Sequence[bytes], limit: RedisLimit | None, names: Sequence[bytes]
    ) -> tuple[list[bytes | None], int | None]:
        """Return the values of `keys`, and the milliseconds to wait if the request was counted."""
        deadline = monotonic() + self._seconds

        def execute(command: bytes, *arguments: Argument) -> Awaitable[Any]:
            return self._redis.execute(command, *arguments, seconds=deadline - monotonic())

        if limit is not None and not limit.is_rejected:
            try:
                *values, wait = await limit.read_and_count(execute, keys, names[0])
            except (RedisReplyError, UnexpectedAnswer):
                pass  # it says nothing about revocations
            else:
                return values, wait
        return await execute(b"MGET", *keys), None

    def _is_revoked_without_answer(self, keys: Sequence[bytes], error: Exception) -> bool:
        """Decide without Redis. Raises `ApiError` AUTH_UNAVAILABLE."""
        self._on_failure()
        if isinstance(error, RedisDown):
            if self._recent.include(keys):
                return True
            if self._serve_without:
                return False
        details = "The revocation list is not available; try again"
        raise ApiError(ErrorCode.AUTH_UNAVAILABLE, details, retry_after=1) from None

    async def find_revoked(self, patient_ids: Collection[str]) -> set[str]:
        """Return which patients are revoked. Raises `RedisDown`, `RedisError` or TimeoutError."""
        names = [(each, name) for each in patient_ids for name in self._names.all(each)]
        entries: list[object] = []
        for start in range(0, len(names), _KEYS_AT_ONCE):
            keys = [KEY_PREFIX + name for _, name in names[start : start + _KEYS_AT_ONCE]]
            entries += await self._redis.execute(b"MGET", *keys, seconds=self._seconds)
        return {each for (each, _), entry in zip(names, entries, strict=True) if entry is not None}

    async def _probe(self, execute: Execute) -> None:
        """Read what requests read: a `Probe`."""
        pause, _ = await execute(b"MGET", PAUSE_KEY, PROBE_KEY)
        self._record_pause(pause)


def _access(milliseconds: int | None, *, revoked: bool) -> Access:
    if milliseconds is None:
        return Access(revoked)
    return Access(revoked, counted=True, wait=None if milliseconds < 0 else milliseconds / 1000)


class RecentRevocations:
    """The revocations of the last minute, for the time without Redis.

    `clock` returns seconds; the oldest entries are dropped beyond `max_entries`.
    """

    def __init__(self, *, clock: Clock = monotonic, max_entries: int = _MAX_REMEMBERED) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def record(self, keys: Sequence[bytes], entries: Sequence[object]) -> bool:
        """Record the answer to a lookup; return whether one of the keys has an entry."""
        revoked = False
        for key, entry in zip(keys, entries, strict=True):
            self._seen.pop(key, None)
            if entry is not None:
                self._add(key)
                revoked = True
        return revoked

    def _add(self, key: bytes) -> None:
        """Add the latest entry; drop the outdated ones, which come first."""
        now = self._clock()
        while self._seen:
            oldest = next(iter(self._seen.values()))
            if oldest > now - _REMEMBERED_SECONDS and len(self._seen) < self._max_entries:
                break
            self._seen.popitem(last=False)
        self._seen[key] = now

    def include(self, keys: Sequence[bytes]) -> bool:
        """Return whether one of the keys had an entry in the last minute."""
        since = self._clock() - _REMEMBERED_SECONDS
        return any(self._seen.get(key, -inf) > since for key in keys)

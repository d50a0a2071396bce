"""The revocation list in Redis: tokens and patients, as entries that expire by themselves."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Any, Final

from middlewares.context import Access, Clock, Principal
from middlewares.errors import ApiError, ErrorCode
from server.policies.patient_names import CLEAR_NAMES, PatientNames
from server.policies.pause import PAUSE_KEY
from server.policies.rate_limits import RedisLimit
from server.policies.revocation_index import KEY_PREFIX, token_entry
from server.redis.client import PROBE_KEY, RedisClient
from server.redis.connection import (
    Argument,
    Execute,
    RedisDown,
    RedisError,
    RedisReplyError,
    UnexpectedAnswer,
)

_REMEMBERED_SECONDS: Final = 60.0
_MAX_REMEMBERED: Final = 65536


class RevocationList:
    """Looks up principals; the same command reads the pause, which goes to `record_pause`, and
    counts the request with `limit`.

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
    ) -> None:
        self._redis = redis
        self._seconds = seconds
        self._serve_without = serve_without
        self._record_pause = record_pause
        self._on_failure = on_failure
        self._names = names
        self._limit = limit
        self._recent = RecentRevocations()
        redis.probes.append(self._probe)

    async def check_access(self, principal: Principal) -> Access:
        """Look up a principal and count the request: a `CheckAccess`."""
        return await self._look_up(principal, self._limit if principal.patient_id else None)

    async def is_revoked(self, principal: Principal) -> bool:
        """Look up a principal. Raises `ApiError` AUTH_UNAVAILABLE."""
        return (await self._look_up(principal, None)).revoked

    async def _look_up(self, principal: Principal, limit: RedisLimit | None) -> Access:
        keys = self._keys_of(principal)
        try:
            (pause, *entries), wait = await self._ask(
                [PAUSE_KEY, *keys], limit, str(principal.patient_id)
            )
        except (RedisDown, RedisError, TimeoutError) as error:
            access = Access(self._is_revoked_without_answer(keys, error))
        else:
            self._record_pause(pause)
            revoked = self._recent.record(keys, entries)
            access = _access(wait, revoked=revoked)
        if limit is not None and not access.revoked and not access.counted:
            limit.on_failure()
        return access

    async def _ask(
        self, keys: Sequence[bytes], limit: RedisLimit | None, patient_id: str
    ) -> tuple[list[bytes | None], int | None]:
        """Return the values of `keys`, and the milliseconds to wait if the request was counted."""
        deadline = monotonic() + self._seconds

        async def execute(command: bytes, *arguments: Argument) -> Any:
            left = deadline - monotonic()
            return await self._redis.execute(command, *arguments, seconds=left)

        if limit is not None and not limit.is_rejected:
            try:
                *values, wait = await limit.read_and_count(execute, keys, patient_id)
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

    def _keys_of(self, principal: Principal) -> list[bytes]:
        """Return the keys whose existence revokes a principal."""
        entries = [] if principal.token_id is None else [token_entry(principal.token_id)]
        if principal.patient_id is not None:
            entries += self._names.all(principal.patient_id)
        return [KEY_PREFIX + entry for entry in entries]

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

"""The rate limit of each patient, in a window of fixed length from the first request."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1
from time import monotonic
from typing import Any, Final

from middlewares.context import Clock
from middlewares.rate_limit import AcquireRateLimit
from server.policies.patient_names import CLEAR_NAMES, PatientNames
from server.redis.client import READ_ONLY, RedisClient
from server.redis.connection import (
    Execute,
    RedisDown,
    RedisError,
    RedisReplyError,
    UnexpectedAnswer,
    describe,
)

log = logging.getLogger(__name__)


MAX_WINDOWS: Final = 65536
"""The patients that are counted at a time; beyond it the oldest window is dropped early."""

_SCRIPT: Final = b"""
local count = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
    left = tonumber(ARGV[1])
end
return count > tonumber(ARGV[2]) and left or -1
"""
"""Counts a request; returns the milliseconds left of a window over the limit, else -1."""

_SHA: Final = sha1(_SCRIPT).hexdigest()  # noqa: S324  the name of a script, by Redis's protocol
_PROBE_KEY: Final = b"{vapi-sessions}:limit:probe"
_PROBE_MILLISECONDS: Final = 1000


_PERIODS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


def parse_rate(limit: str) -> tuple[int, int]:
    """Return the number of requests and the period in seconds of a valid `RATE_LIMIT`."""
    amount, _, unit = limit.partition("/")
    return int(amount), _PERIODS[unit]


@dataclass(slots=True)
class Window:
    """A patient's requests since the first of them, and when the window ends."""

    ends_at: float
    count: int = 0


class InMemoryRateLimiter:
    """Counts in the process; `limit` is like `30/minute`, `clock` returns seconds.

    All windows have one length, so they end in the order in which they began, and removing the
    ended ones takes constant time.
    """

    def __init__(
        self, limit: str, *, clock: Clock = monotonic, max_windows: int = MAX_WINDOWS
    ) -> None:
        self._amount, self._seconds = parse_rate(limit)
        self._clock = clock
        self._max_windows = max_windows
        self._windows: OrderedDict[str, Window] = OrderedDict()

    async def acquire(self, patient_id: str) -> float | None:
        """Count a request: an `AcquireRateLimit`."""
        now = self._clock()
        window = self._windows.get(patient_id)
        if window is None or window.ends_at <= now:
            window = self._begin(patient_id, now)
        window.count += 1
        return None if window.count <= self._amount else window.ends_at - now

    def _begin(self, patient_id: str, now: float) -> Window:
        while self._windows:
            oldest = next(iter(self._windows.values()))
            if oldest.ends_at > now and len(self._windows) < self._max_windows:
                break
            self._windows.popitem(last=False)
        self._windows[patient_id] = window = Window(now + self._seconds)
        return window


class RedisRateLimiter:
    """Counts in Redis, together with other processes, in one atomic step.

    A request that Redis does not count within `seconds`, or rejects to count, is counted by
    `fallback`; `on_failure` is called for each.
    """

    def __init__(
        self,
        redis: RedisClient,
        limit: str,
        *,
        seconds: float,
        fallback: AcquireRateLimit,
        on_failure: Callable[[], None],
        names: PatientNames = CLEAR_NAMES,
    ) -> None:
        amount, period = parse_rate(limit)
        self._redis = redis
        self._prefix = f"{{vapi-sessions}}:limit:{limit}:".encode()
        self._arguments = (period * 1000, amount)
        self._seconds = seconds
        self._fallback = fallback
        self._on_failure = on_failure
        self._names = names
        self._rejected = False
        redis.probes.append(self.probe)

    async def acquire(self, patient_id: str) -> float | None:
        """Count a request: an `AcquireRateLimit`."""
        try:
            key = self._prefix + self._names.current(patient_id).removeprefix(b"patient:")
            wait = await _count(self._execute, key, *self._arguments)
        except (RedisDown, RedisError, TimeoutError):
            self._on_failure()
            return await self._fallback(patient_id)
        return None if wait < 0 else wait / 1000

    async def _execute(self, *command: Any) -> Any:
        return await self._redis.execute(*command, seconds=self._seconds)

    async def probe(self, execute: Execute) -> None:
        """Count on a key of its own: a `Probe`. A rejection is logged, and is not an outage."""
        try:
            await _count(execute, _PROBE_KEY, _PROBE_MILLISECONDS, 1)
        except RedisReplyError as error:
            if error.code != READ_ONLY:  # which the client logs
                self._record_rejection(describe(error))
        else:
            self._record_rejection(None)

    def _record_rejection(self, reason: str | None) -> None:
        if reason and not self._rejected:
            log.warning("Redis rejects rate limits (%s): each process counts by itself", reason)
        if self._rejected and not reason:
            log.info("Redis accepts rate limits again")
        self._rejected = bool(reason)


async def _count(execute: Execute, key: bytes, *arguments: int) -> int:
    """Run the script. Redis has it by its name after the first time, until it is restarted."""
    try:
        answer = await execute(b"EVALSHA", _SHA, 1, key, *arguments)
    except RedisReplyError as error:
        if error.code != "NOSCRIPT":
            raise
        answer = await execute(b"EVAL", _SCRIPT, 1, key, *arguments)
    if not isinstance(answer, int):
        raise UnexpectedAnswer
    return answer

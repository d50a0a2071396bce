"""The rate limit of each patient, in a window of fixed length from the first request."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from time import monotonic
from typing import Any, Final

from middlewares.context import Clock
from server.redis.client import PROBE_KEY, READ_ONLY, RedisClient
from server.redis.connection import (
    Argument,
    Execute,
    RedisReplyError,
    UnexpectedAnswer,
    describe,
)

log = logging.getLogger(__name__)


MAX_WINDOWS: Final = 65536
"""The patients that are counted at a time; beyond it the oldest window is dropped early."""

_SCRIPT: Final = b"""
local found = redis.call('MGET', unpack(KEYS, 1, #KEYS - 1))
for index = 2, #KEYS - 1 do
    if found[index] then
        found[#KEYS] = -1
        return found
    end
end
local count = redis.call('INCR', KEYS[#KEYS])
local left = redis.call('PTTL', KEYS[#KEYS])
if left < 0 then
    redis.call('PEXPIRE', KEYS[#KEYS], ARGV[1])
    left = tonumber(ARGV[1])
end
found[#KEYS] = count > tonumber(ARGV[2]) and left or -1
return found
"""
"""Takes the pause, the revocations of a caller and the limit; the period and the amount."""

_SHA: Final = sha1(_SCRIPT).hexdigest()  # noqa: S324  the name of a script, by Redis's protocol
_PROBE_LIMIT_KEY: Final = b"{vapi-sessions}:limit:probe"
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


class RedisLimit:
    """Counts in Redis, together with other processes, in the script that reads the revocations.

    `on_failure` is called for each request that Redis does not count; `is_rejected` is set while
    Redis rejects to count, by the last probe.
    """

    def __init__(self, redis: RedisClient, limit: str, *, on_failure: Callable[[], None]) -> None:
        amount, period = parse_rate(limit)
        self.on_failure = on_failure
        self._prefix = f"{{vapi-sessions}}:limit:{limit}:".encode()
        self._arguments = (period * 1000, amount)
        self.is_rejected = False
        redis.probes.append(self._probe)

    async def read_and_count(
        self, execute: Execute, keys: Sequence[bytes], name: bytes
    ) -> list[Any]:
        """Return the values of `keys`, and last the milliseconds to wait, or -1 within the limit.

        `name` is that of a patient in keys. Nothing is counted when a key but the first has a
        value. Raises `RedisFailure`.
        """
        key = self._prefix + name.removeprefix(b"patient:")
        return await _run_script(execute, (*keys, key, *self._arguments))

    async def _probe(self, execute: Execute) -> None:
        """Count on a key of its own: a `Probe`. A rejection is logged, and is not an outage."""
        try:
            await _run_script(execute, (PROBE_KEY, _PROBE_LIMIT_KEY, _PROBE_MILLISECONDS, 1))
        except RedisReplyError as error:
            if error.code != READ_ONLY:  # which the client logs
                self._record_rejection(describe(error))
        else:
            self._record_rejection(None)

    def _record_rejection(self, reason: str | None) -> None:
        if reason and not self.is_rejected:
            log.warning("Redis rejects rate limits (%s): each process counts by itself", reason)
        if self.is_rejected and not reason:
            log.info("Redis accepts rate limits again")
        self.is_rejected = bool(reason)


async def _run_script(execute: Execute, words: tuple[Argument, ...]) -> list[Any]:
    """Run the script. Redis has it by its name after the first time, until it is restarted."""
    keys = len(words) - 2
    try:
        answer = await execute(b"EVALSHA", _SHA, keys, *words)
    except RedisReplyError as error:
        if error.code != "NOSCRIPT":
            raise
        answer = await execute(b"EVAL", _SCRIPT, keys, *words)
    if not (isinstance(answer, list) and len(answer) == keys and isinstance(answer[-1], int)):
        raise UnexpectedAnswer
    return answer

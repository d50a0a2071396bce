"""How often a patient asked, in a window of fixed length from their first request."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, time
from typing import Final

from limits import parse
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter

from middlewares.rate_limit import AcquireRateLimit
from middlewares.timestamps import Clock
from server.redis.client import RedisClient, RedisUnavailable

MAX_WINDOWS: Final = 65536
"""So many patients are counted at a time; past that the oldest window is forgotten early."""


@dataclass(slots=True)
class Window:
    """A patient's requests since the first of them, and when the counting ends."""

    ends_at: float
    count: int = 0


class InMemoryRateLimiter:
    """Counts in the process; `limit` is like `30/minute`, `clock` tells seconds.

    Windows of one limit are all of one length, so they end in the order they began, and the ended
    ones stand in front: forgetting costs the same however many patients there are. The library's
    own store looks through all of them at every request.
    """

    def __init__(
        self, limit: str, *, clock: Clock = monotonic, max_windows: int = MAX_WINDOWS
    ) -> None:
        item = parse(limit)
        self._amount = item.amount
        self._seconds = item.get_expiry()
        self._clock = clock
        self._max_windows = max_windows
        self._windows: OrderedDict[str, Window] = OrderedDict()

    async def acquire(self, patient_id: str) -> float | None:
        """Count a request: a `AcquireRateLimit` of `rate_limit`."""
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


def make_redis_rate_limiter(limit: str, storage: Storage) -> AcquireRateLimit:
    """Make what counts in a store that several processes share; it goes by the time of day."""
    item = parse(limit)
    limiter = FixedWindowRateLimiter(storage)

    async def hit(patient_id: str) -> float | None:
        if await limiter.hit(item, patient_id):
            return None
        return await storage.get_expiry(item.key_for(patient_id)) - time()

    return hit


def with_fallback(
    link: RedisClient,
    shared: AcquireRateLimit,
    local: AcquireRateLimit,
    on_failure: Callable[[], None],
) -> AcquireRateLimit:
    """Count in Redis, together with other processes; in this one while Redis is gone."""

    async def hit(patient_id: str) -> float | None:
        try:
            return await link.ask(lambda: shared(patient_id))
        except RedisUnavailable:
            on_failure()
            return await local(patient_id)

    return hit

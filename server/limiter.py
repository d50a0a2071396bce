"""How often a patient asked: the `limits` library over a bounded store in the process."""

from collections.abc import Callable
from time import monotonic, time
from typing import Final

from limits import RateLimitItem, parse
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter

from middlewares.clock import Clock
from middlewares.rate_limit import Hit
from server.redis_link import RedisGone, RedisLink

MAX_WINDOWS: Final = 65536
"""So many patients are counted at a time; past that the oldest window is forgotten early."""


class ProcessStorage(Storage):
    """A store for `limits` that forgets by itself.

    Windows of one limit are all of one length, so they end in the order they began, and the ended
    ones stand in front: forgetting costs the same however many patients there are. The library's
    own store looks through all of them at every request.
    """

    STORAGE_SCHEME = None

    def __init__(self, *, clock: Clock = monotonic, max_windows: int = MAX_WINDOWS) -> None:
        super().__init__()
        self._clock = clock
        self._max_windows = max_windows
        self._windows: dict[str, tuple[int, float]] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        """Nothing here fails in a way of its own."""
        return ValueError

    def _forget_ended(self) -> None:
        now = self._clock()
        while self._windows:
            oldest = next(iter(self._windows))
            if self._windows[oldest][1] > now and len(self._windows) <= self._max_windows:
                break
            del self._windows[oldest]

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count for a key; its window ends `expiry` seconds after the first count."""
        self._forget_ended()
        count, ends_at = self._windows.get(key, (0, self._clock() + expiry))
        self._windows[key] = (count + amount, ends_at)
        return count + amount

    async def get(self, key: str) -> int:
        """Give the count of a key's window: 0 when it has none."""
        self._forget_ended()
        return self._windows.get(key, (0, 0.0))[0]

    async def get_expiry(self, key: str) -> float:
        """Give the end of a key's window, by the clock of this store."""
        return self._windows.get(key, (0, self._clock()))[1]

    async def check(self) -> bool:
        """Tell that the store works."""
        return True

    async def clear(self, key: str) -> None:
        """Forget a key."""
        self._windows.pop(key, None)

    async def reset(self) -> int:
        """Forget everything; give how many windows there were."""
        count = len(self._windows)
        self._windows.clear()
        return count


def make_hit(limit: str, storage: Storage, clock: Clock = time) -> Hit:
    """Make what `rate_limit` counts with: a window of fixed length from a patient's first request.

    `limit` is like `30/minute`; `clock` is the one that the storage goes by.
    """
    item: RateLimitItem = parse(limit)
    limiter = FixedWindowRateLimiter(storage)

    async def hit(patient_id: str) -> float | None:
        if await limiter.hit(item, patient_id):
            return None
        return await storage.get_expiry(item.key_for(patient_id)) - clock()

    return hit


def with_fallback(link: RedisLink, shared: Hit, local: Hit, on_failure: Callable[[], None]) -> Hit:
    """Count in Redis, together with other processes; in this one while Redis is gone."""

    async def hit(patient_id: str) -> float | None:
        try:
            return await link.ask(lambda: shared(patient_id))
        except RedisGone:
            on_failure()
            return await local(patient_id)

    return hit


async def unlimited(_: str) -> float | None:
    """Stand for the limit where there is none."""
    return None

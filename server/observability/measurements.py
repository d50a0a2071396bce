"""Numbers that components keep, whether or not there are metrics to report them."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Final

from aiohttp import web

_LAG_INTERVAL_SECONDS: Final = 0.1
_WINDOW_SECONDS: Final = 15.0


class EventCount:
    """Counts events: call it once for each; `total` is the number of calls."""

    def __init__(self) -> None:
        self.total = 0

    def __call__(self) -> None:
        """Count one event."""
        self.total += 1


class RecentMaximum:
    """The largest value of the last 15 to 30 seconds.

    A scrape every 30 seconds sees it, however short it was.
    """

    def __init__(self) -> None:
        self._previous = self._current = 0.0
        self._window_ends_at = 0.0

    def read(self) -> float:
        """Return the largest value."""
        self.record(0)
        return max(self._previous, self._current)

    def record(self, value: float) -> None:
        """Record a value now."""
        now = monotonic()
        if now >= self._window_ends_at:
            self._previous, self._current = self._current, 0.0
            self._window_ends_at = now + _WINDOW_SECONDS
        self._current = max(self._current, value)


class LoopLag(RecentMaximum):
    """How much later than planned a timer of the event loop runs, measured ten times a second."""

    async def lifespan(self, _: web.Application) -> AsyncIterator[None]:
        """Measure while the application runs: a context for `Application.cleanup_ctx`."""
        measuring = asyncio.create_task(self._measure())
        yield
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)

    async def _measure(self) -> None:
        while True:
            planned = monotonic() + _LAG_INTERVAL_SECONDS
            await asyncio.sleep(_LAG_INTERVAL_SECONDS)
            self.record(monotonic() - planned)

"""The budget: no request is worked on longer than it."""

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.context import RECEIVING


class Budgets:
    """The budgets of all requests under way, each of as many seconds: more than 0.

    Being of one length they end in the order they began, so one timer serves them all: it waits
    for the oldest. A timer for each request would cost more than most requests do.
    """

    def __init__(self, seconds: float) -> None:
        if seconds <= 0:
            raise ValueError("seconds must be positive")
        self.seconds = seconds
        self._ends: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, budget: asyncio.Timeout, loop: asyncio.AbstractEventLoop) -> None:
        """Have a time-out, entered without a time of its own, run out when the seconds are over."""
        self._ends[budget] = ends = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(ends, self._oldest_ends, loop)

    def end(self, budget: asyncio.Timeout) -> None:
        """Forget a budget that was kept."""
        self._ends.pop(budget, None)

    def run_out(self) -> None:
        """Have all budgets run out now, so that whoever still waits is answered."""
        ends, self._ends = self._ends, {}
        for budget in ends:
            budget.reschedule(0)

    def _oldest_ends(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while self._ends:
            budget, ends = next(iter(self._ends.items()))
            if ends > loop.time():
                self._timer = loop.call_at(ends, self._oldest_ends, loop)
                break
            del self._ends[budget]
            budget.reschedule(ends)


def deadline(*, budgets: Budgets) -> Middleware:
    """Cancel the work below when its budget has run out.

    Raises `ApiError`: REQUEST_TIMEOUT when the client was still sending, else SESSION_TIMEOUT.
    """

    @web.middleware
    async def deadline_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            async with asyncio.timeout(None) as budget:
                budgets.begin(budget, asyncio.get_running_loop())
                try:
                    return await handler(request)
                finally:
                    budgets.end(budget)
        except TimeoutError as error:
            if not budget.expired():  # somebody else's time-out, and a fault of ours
                raise
            raise _out_of_time(request, budgets.seconds) from error

    return deadline_middleware


def _out_of_time(request: web.Request, seconds: float) -> ApiError:
    if request.get(RECEIVING):
        details = f"The request body did not arrive within {seconds:g} seconds"
        return ApiError(ErrorCode.REQUEST_TIMEOUT, details, close=True)
    return ApiError(ErrorCode.SESSION_TIMEOUT, f"No answer within {seconds:g} seconds; try again")

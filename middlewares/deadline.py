"""The budget: no request is worked on longer than it."""

import asyncio
from collections import OrderedDict
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.context import RECEIVING

Task = asyncio.Task[Any]


class Budgets:
    """The budgets of all requests under way, each of as many seconds: more than 0.

    Being of one length they end in the order they began, so one timer serves them all: it waits
    for the oldest. A timer, or an `asyncio.timeout`, for each would cost more than most links do.
    """

    def __init__(self, seconds: float) -> None:
        if seconds <= 0:
            raise ValueError("seconds must be positive")
        self.seconds = seconds
        self._ends: OrderedDict[Task, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: Task) -> None:
        """Have a task cancelled when the seconds are over, unless it ends before."""
        loop = task.get_loop()
        self._ends[task] = ends = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(ends, self._oldest_ends, loop)

    def has_run_out(self, task: Task) -> bool:
        """Tell whether the budget of a task that began has run out."""
        return task not in self._ends

    def end(self, task: Task) -> None:
        """Forget a task; take back the cancellation that its budget asked for, if it did."""
        if self._ends.pop(task, None) is None:
            task.uncancel()

    def run_out(self) -> None:
        """Have all budgets run out now, so that whoever still waits is answered."""
        while self._ends:
            self._ends.popitem()[0].cancel()

    def _oldest_ends(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while self._ends:
            task, ends = next(iter(self._ends.items()))
            if ends > loop.time():
                self._timer = loop.call_at(ends, self._oldest_ends, loop)
                break
            del self._ends[task]
            task.cancel()


def deadline(*, budgets: Budgets) -> Middleware:
    """Cancel the work below when its budget has run out.

    Raises `ApiError`: REQUEST_TIMEOUT when the client was still sending, else SESSION_TIMEOUT.
    """

    @web.middleware
    async def deadline_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        task: Task = asyncio.current_task()  # type: ignore[assignment]  # each request has one
        others = task.cancelling()
        budgets.begin(task)
        try:
            return await handler(request)
        except (asyncio.CancelledError, TimeoutError) as error:
            if budgets.has_run_out(task) and task.cancelling() == others + 1:
                raise _out_of_time(request, budgets.seconds) from error
            raise  # somebody else's cancellation, or a fault of ours
        finally:
            budgets.end(task)

    return deadline_middleware


def _out_of_time(request: web.Request, seconds: float) -> ApiError:
    if request.get(RECEIVING):
        details = f"The request body did not arrive within {seconds:g} seconds"
        return ApiError(ErrorCode.REQUEST_TIMEOUT, details, close=True)
    return ApiError(ErrorCode.SESSION_TIMEOUT, f"No answer within {seconds:g} seconds; try again")

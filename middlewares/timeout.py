"""The time limit of a request: the work is cancelled when it expires."""

import asyncio
from collections import OrderedDict
from time import perf_counter
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from middlewares.context import CONTEXT, RECEIVING
from middlewares.errors import ApiError, ErrorCode

Task = asyncio.Task[Any]


class RequestTimeouts:
    """The time limits of all requests in flight; each is `seconds` long, which must be positive.

    All limits have the same length, so they expire in about the order in which they started, and
    one timer for the oldest serves them all. One timer, or one `asyncio.timeout`, per request would
    cost more than most middlewares do.
    """

    def __init__(self, seconds: float) -> None:
        if seconds <= 0:
            raise ValueError("seconds must be positive")
        self.seconds = seconds
        self._expiries: OrderedDict[Task, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, task: Task, elapsed: float = 0) -> None:
        """Start the time limit of a task; the task is cancelled when it expires.

        `elapsed` seconds of the limit have passed already.
        """
        loop = task.get_loop()
        self._expiries[task] = expires_at = loop.time() + self.seconds - elapsed
        if self._timer is None:
            self._timer = loop.call_at(expires_at, self._expire_oldest, loop)

    def has_cancelled(self, task: Task) -> bool:
        """Return whether the time limit of a task expired, so that the task was cancelled."""
        return task not in self._expiries

    def finish(self, task: Task) -> None:
        """End the time limit of a task; undo its cancellation if the limit had expired."""
        if self._expiries.pop(task, None) is None:
            task.uncancel()

    def expire_all(self) -> None:
        """Expire all time limits now, so that every request in flight is answered."""
        while self._expiries:
            self._expiries.popitem()[0].cancel()

    def _expire_oldest(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while self._expiries:
            task, expires_at = next(iter(self._expiries.items()))
            if expires_at > loop.time():
                self._timer = loop.call_at(expires_at, self._expire_oldest, loop)
                break
            del self._expiries[task]
            task.cancel()


def timeout(*, timeouts: RequestTimeouts) -> Middleware:
    """Cancel the inner middlewares and the handler when the time limit expires.

    Raises `ApiError`: REQUEST_TIMEOUT while the client is still sending, else SESSION_TIMEOUT.
    """

    @web.middleware
    async def timeout_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        task: Task = asyncio.current_task()  # type: ignore[assignment]  # each request has one
        earlier_cancellations = task.cancelling()
        context = request.get(CONTEXT)
        timeouts.start(task, perf_counter() - context.started_at if context else 0)
        try:
            return await handler(request)
        except (asyncio.CancelledError, TimeoutError) as error:
            if timeouts.has_cancelled(task) and task.cancelling() == earlier_cancellations + 1:
                raise _timeout_error(request, timeouts.seconds) from error
            raise  # cancelled by another party, or an uncaught TimeoutError of the service
        finally:
            timeouts.finish(task)

    return timeout_middleware


def _timeout_error(request: web.Request, seconds: float) -> ApiError:
    if request.get(RECEIVING):
        details = f"The request body did not arrive within {seconds:g} seconds"
        return ApiError(ErrorCode.REQUEST_TIMEOUT, details, close=True)
    return ApiError(ErrorCode.SESSION_TIMEOUT, f"No answer within {seconds:g} seconds; try again")

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
        self.running: OrderedDict[Task, float] = OrderedDict()
        """The limits that have not expired: when each will, in seconds of `time.perf_counter`."""
        self._timer: asyncio.TimerHandle | None = None

    def start(self, task: Task, started_at: float) -> None:
        """Start the time limit of a task whose request began at `started_at`."""
        self.running[task] = expires_at = started_at + self.seconds
        if self._timer is None:
            self._set_timer(task, expires_at)

    def expire_all(self) -> None:
        """Expire all time limits now, so that every request in flight is answered."""
        while self.running:
            self.running.popitem()[0].cancel()

    def _set_timer(self, task: Task, expires_at: float) -> None:
        wait = expires_at - perf_counter()
        self._timer = task.get_loop().call_later(wait, self._expire_oldest)

    def _expire_oldest(self) -> None:
        self._timer = None
        while self.running:
            task, expires_at = next(iter(self.running.items()))
            if expires_at > perf_counter():
                self._set_timer(task, expires_at)
                break
            del self.running[task]
            task.cancel()


def timeout(*, timeouts: RequestTimeouts) -> Middleware:
    """Cancel the inner middlewares and the handler when the time limit expires.

    Raises `ApiError`: REQUEST_TIMEOUT while the client is still sending, else SESSION_TIMEOUT.
    """

    @web.middleware
    async def timeout_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        task: Task = asyncio.current_task()  # type: ignore[assignment]  # each request has one
        earlier_cancellations = task.cancelling()
        timeouts.start(task, request[CONTEXT].started_at)
        try:
            return await handler(request)
        except (asyncio.CancelledError, TimeoutError) as error:
            has_expired = task not in timeouts.running
            if has_expired and task.cancelling() == earlier_cancellations + 1:
                raise _timeout_error(request, timeouts.seconds) from error
            raise  # cancelled by another party, or an uncaught TimeoutError of the service
        finally:
            if timeouts.running.pop(task, None) is None:
                task.uncancel()  # the limit has expired, and this is its end

    return timeout_middleware


def _timeout_error(request: web.Request, seconds: float) -> ApiError:
    if request.get(RECEIVING):
        details = f"The request body did not arrive within {seconds:g} seconds"
        return ApiError(ErrorCode.REQUEST_TIMEOUT, details, close=True)
    return ApiError(ErrorCode.SESSION_TIMEOUT, f"No answer within {seconds:g} seconds; try again")

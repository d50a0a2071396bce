"""The time limit: the work is cancelled, and the error says which side was late."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn

import pytest
from aiohttp import web
from aiohttp.typedefs import Middleware

from middlewares.context import RECEIVING
from middlewares.errors import ApiError, error_handler
from middlewares.timeout import RequestTimeouts, timeout
from tests.middlewares.support import Alone, log_records


@pytest.mark.parametrize("seconds", [0, -1, -0.001])
def test_seconds_must_be_positive(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^seconds must be positive$"):
        timeout(timeouts=RequestTimeouts(seconds))


@pytest.mark.parametrize(
    ("receiving", "status", "code", "details"),
    [
        (None, 504, "SESSION_TIMEOUT", "No answer within 0.01 seconds; try again"),
        (False, 504, "SESSION_TIMEOUT", "No answer within 0.01 seconds; try again"),
        (True, 408, "REQUEST_TIMEOUT", "The request body did not arrive within 0.01 seconds"),
    ],
)
async def test_expired_limit_cancels_the_work(
    alone: Alone, status: int, code: str, details: str, *, receiving: bool | None
) -> None:
    cancelled = asyncio.Event()

    async def forever(request: web.Request) -> NoReturn:
        if receiving is not None:
            request[RECEIVING] = receiving
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()
        raise AssertionError

    client = await alone(error_handler(), timeout(timeouts=RequestTimeouts(0.01)), handler=forever)
    async with client.post("/") as response:
        assert response.status == status
        error = (await response.json())["error"]
        assert (error["code"], error["details"]) == (code, details)
        assert (response.headers.get("Connection") == "close") is bool(receiving)
    assert cancelled.is_set()


async def test_timeout_error_of_the_handler_is_not_the_limit(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(_: web.Request) -> NoReturn:
        raise TimeoutError

    client = await alone(error_handler(), timeout(timeouts=RequestTimeouts(60)), handler=failing)
    async with client.post("/") as response:
        assert response.status == 500
        assert (await response.json())["error"]["code"] == "INTERNAL_ERROR"
    [record] = log_records(caplog)
    assert record.exc_info


class ClockWithOneTimer:
    """An event loop with a manual clock and one timer."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[..., None]]] = []
        """The timers that have not run."""

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, run: Callable[..., None], *arguments: object) -> object:
        self.timers.append((when, lambda: run(*arguments)))
        return self.timers[-1]

    def reach(self, when: float) -> None:
        """Set the time and run the timer, which must be due."""
        self.now = when
        [(due, run)] = self.timers
        assert due <= when
        self.timers.clear()
        run()


class Work:
    """A task that records its cancellations."""

    def __init__(self, clock: ClockWithOneTimer) -> None:
        self.clock = clock
        self.cancelled_at: list[float] = []
        self.uncancelled = 0

    def get_loop(self) -> ClockWithOneTimer:
        return self.clock

    def cancel(self) -> None:
        self.cancelled_at.append(self.clock.now)

    def uncancel(self) -> None:
        self.uncancelled += 1


def work(clock: ClockWithOneTimer) -> Any:
    """Return a task of this event loop."""
    return Work(clock)


def test_one_timer_serves_all_limits() -> None:
    clock = ClockWithOneTimer()
    first, second, third = tasks = [work(clock), work(clock), work(clock)]
    timeouts = RequestTimeouts(seconds=3)
    for task in tasks:
        timeouts.start(task)
        clock.now += 1
    timeouts.finish(second)
    assert [when for when, _ in clock.timers] == [103]
    clock.reach(103)
    assert (first.cancelled_at, third.cancelled_at) == ([103], [])
    assert [when for when, _ in clock.timers] == [105]
    clock.reach(105.5)
    assert (second.cancelled_at, third.cancelled_at) == ([], [105.5])
    assert not clock.timers
    assert timeouts.has_cancelled(third)
    timeouts.finish(third)
    assert (second.uncancelled, third.uncancelled) == (0, 1)
    late = work(clock)
    timeouts.start(late)
    clock.reach(108.5)  # the timer is set again by the next request
    assert late.cancelled_at == [108.5]


async def through(middleware: Middleware, work: Callable[[], Awaitable[Any]]) -> Any:
    """Run a handler through the middleware, without a server."""
    request: Any = {}
    return await middleware(request, lambda _: work())


async def test_cancellation_by_another_party_passes() -> None:
    middleware = timeout(timeouts=RequestTimeouts(60))
    working = asyncio.create_task(through(middleware, asyncio.Event().wait))
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_cancellation_by_another_party_takes_precedence() -> None:
    timeouts = RequestTimeouts(60)
    working = asyncio.create_task(through(timeout(timeouts=timeouts), asyncio.Event().wait))
    await asyncio.sleep(0)
    timeouts.expire_all()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_handler_that_suppresses_cancellation_is_answered() -> None:
    timeouts = RequestTimeouts(60)

    async def stubborn() -> web.Response:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return web.Response()

    async def all_of_it() -> int:
        await through(timeout(timeouts=timeouts), stubborn)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    working = asyncio.create_task(all_of_it())
    await asyncio.sleep(0)
    timeouts.expire_all()
    assert await working == 0


async def test_handler_that_converts_cancellation_to_timeout_error_is_504() -> None:
    timeouts = RequestTimeouts(60)

    async def mistaken() -> web.Response:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise TimeoutError from None
        raise AssertionError

    working = asyncio.create_task(through(timeout(timeouts=timeouts), mistaken))
    await asyncio.sleep(0)
    timeouts.expire_all()
    with pytest.raises(ApiError, match="SESSION_TIMEOUT"):
        await working


async def test_cancellation_suppressed_outside_is_not_counted() -> None:
    timeouts = RequestTimeouts(60)

    async def suppress_cancellation() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await through(timeout(timeouts=timeouts), asyncio.Event().wait)

    working = asyncio.create_task(suppress_cancellation())
    await asyncio.sleep(0)
    working.cancel()
    await asyncio.sleep(0)
    timeouts.expire_all()
    with pytest.raises(ApiError, match="SESSION_TIMEOUT"):
        await working

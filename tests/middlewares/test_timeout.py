"""The budget: when it has run out, the work ends and the answer says whose time it was."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn

import pytest
from aiohttp import web
from aiohttp.typedefs import Middleware

from middlewares.api_errors import ApiError
from middlewares.error_handler import error_handler
from middlewares.request_context import RECEIVING
from middlewares.timeout import RequestTimeouts, timeout
from tests.middlewares.support import Alone, told


@pytest.mark.parametrize("seconds", [0, -1, -0.001])
def test_a_budget_is_more_than_nothing(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds must be positive"):
        timeout(timeouts=RequestTimeouts(seconds))


async def test_what_is_done_in_time_passes_as_it_is(alone: Alone) -> None:
    client = await alone(timeout(timeouts=RequestTimeouts(60)))
    async with client.post("/") as answer:
        assert (answer.status, await answer.text()) == (200, "hello")


@pytest.mark.parametrize(
    ("receiving", "status", "code"),
    [
        (None, 504, "SESSION_TIMEOUT"),
        (False, 504, "SESSION_TIMEOUT"),
        (True, 408, "REQUEST_TIMEOUT"),
    ],
)
async def test_running_out_of_time_is_told_and_the_work_is_cancelled(
    alone: Alone, status: int, code: str, *, receiving: bool | None
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
    async with client.post("/") as answer:
        assert answer.status == status
        error = (await answer.json())["error"]
        assert error["code"] == code
        assert "within 0.01 seconds" in error["details"]
        assert (answer.headers.get("Connection") == "close") is bool(receiving)
    assert cancelled.is_set()


async def test_a_body_still_arriving_when_time_runs_out_is_the_clients_delay(
    alone: Alone,
) -> None:
    async def reading(request: web.Request) -> web.Response:
        request[RECEIVING] = True
        await request.read()
        raise AssertionError

    client = await alone(error_handler(), timeout(timeouts=RequestTimeouts(0.01)), handler=reading)
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n{")
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close" in head


async def test_a_time_out_of_something_below_is_a_fault_and_not_the_budget(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(_: web.Request) -> NoReturn:
        raise TimeoutError

    client = await alone(error_handler(), timeout(timeouts=RequestTimeouts(60)), handler=failing)
    async with client.post("/") as answer:
        assert answer.status == 500
        assert (await answer.json())["error"]["code"] == "INTERNAL_ERROR"
    [record] = told(caplog)
    assert record.exc_info


async def test_each_request_has_a_budget_of_its_own(alone: Alone) -> None:
    waiting = asyncio.Event()

    async def first_forever(request: web.Request) -> web.Response:
        if not waiting.is_set():
            waiting.set()
            await asyncio.get_running_loop().create_future()
        return web.Response()

    client = await alone(
        error_handler(), timeout(timeouts=RequestTimeouts(0.01)), handler=first_forever
    )
    assert (await client.post("/")).status == 504
    assert (await client.post("/")).status == 200


class ClockWithOneTimer:
    """An event loop's clock that is told the time, and keeps the timer it was given last."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[..., None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, run: Callable[..., None], *arguments: object) -> object:
        self.timers.append((when, lambda: run(*arguments)))
        return self.timers[-1]

    def reach(self, when: float) -> None:
        """Let it be so late, and what is due then run."""
        self.now = when
        due, run = self.timers[-1]
        assert due <= when
        run()


class Work:
    """A task that notes when it is cancelled."""

    def __init__(self, clock: ClockWithOneTimer) -> None:
        self.clock = clock
        self.cancelled_at: list[float] = []
        self.taken_back = 0

    def get_loop(self) -> ClockWithOneTimer:
        return self.clock

    def cancel(self) -> None:
        self.cancelled_at.append(self.clock.now)

    def uncancel(self) -> None:
        self.taken_back += 1


def work(clock: ClockWithOneTimer) -> Any:
    """Give one in the place of asyncio's."""
    return Work(clock)


def test_one_timer_serves_the_budgets_of_all() -> None:
    clock = ClockWithOneTimer()
    first, second, third = tasks = [work(clock), work(clock), work(clock)]
    budgets = RequestTimeouts(seconds=3)
    for task in tasks:
        budgets.start(task)
        clock.now += 1
    budgets.finish(second)
    assert [when for when, _ in clock.timers] == [103]
    clock.reach(103)
    assert (first.cancelled_at, third.cancelled_at) == ([103], [])
    assert [when for when, _ in clock.timers] == [103, 105]
    clock.reach(105.5)
    assert (second.cancelled_at, third.cancelled_at) == ([], [105.5])
    assert len(clock.timers) == 2


def test_a_timer_that_finds_nothing_left_is_set_anew_by_whoever_comes_next() -> None:
    clock = ClockWithOneTimer()
    budgets, done, late = RequestTimeouts(seconds=3), work(clock), work(clock)
    budgets.start(done)
    budgets.finish(done)
    clock.reach(103)
    budgets.start(late)
    clock.reach(106)
    assert (done.cancelled_at, late.cancelled_at) == ([], [106])


def test_all_budgets_can_be_made_to_run_out_at_once() -> None:
    clock = ClockWithOneTimer()
    budgets, waiting = RequestTimeouts(seconds=3), [work(clock), work(clock)]
    for task in waiting:
        budgets.start(task)
    budgets.expire_all()
    clock.reach(103)
    assert [task.cancelled_at for task in waiting] == [[100], [100]]


def test_a_cancellation_is_taken_back_where_there_was_one() -> None:
    clock = ClockWithOneTimer()
    budgets, late, in_time = RequestTimeouts(seconds=3), work(clock), work(clock)
    budgets.start(late)
    clock.now += 1
    budgets.start(in_time)
    clock.reach(103)
    assert (budgets.has_expired(late), budgets.has_expired(in_time)) == (True, False)
    for task in (late, in_time):
        budgets.finish(task)
    assert (late.taken_back, in_time.taken_back) == (1, 0)


async def through(link: Middleware, work: Callable[[], Awaitable[Any]]) -> Any:
    """Send work through the link, outside of any server."""
    request: Any = {}
    return await link(request, lambda _: work())


async def test_somebody_elses_cancellation_passes_as_what_it_is() -> None:
    link = timeout(timeouts=RequestTimeouts(60))
    working = asyncio.create_task(through(link, asyncio.Event().wait))
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_somebody_elses_cancellation_comes_before_the_budgets() -> None:
    budgets = RequestTimeouts(60)
    working = asyncio.create_task(through(timeout(timeouts=budgets), asyncio.Event().wait))
    await asyncio.sleep(0)
    budgets.expire_all()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_work_that_ends_well_all_the_same_is_answered() -> None:
    budgets = RequestTimeouts(60)

    async def stubborn() -> web.Response:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return web.Response()

    async def all_of_it() -> int:
        await through(timeout(timeouts=budgets), stubborn)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    working = asyncio.create_task(all_of_it())
    await asyncio.sleep(0)
    budgets.expire_all()
    assert await working == 0


async def test_work_that_takes_its_cancellation_for_a_time_out_of_its_own_ran_out_of_time() -> None:
    budgets = RequestTimeouts(60)

    async def mistaken() -> web.Response:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise TimeoutError from None
        raise AssertionError

    working = asyncio.create_task(through(timeout(timeouts=budgets), mistaken))
    await asyncio.sleep(0)
    budgets.expire_all()
    with pytest.raises(ApiError, match="SESSION_TIMEOUT"):
        await working


async def test_a_cancellation_that_somebody_outside_swallowed_is_not_taken_for_another() -> None:
    budgets = RequestTimeouts(60)

    async def swallowing() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await through(timeout(timeouts=budgets), asyncio.Event().wait)

    working = asyncio.create_task(swallowing())
    await asyncio.sleep(0)
    working.cancel()
    await asyncio.sleep(0)
    budgets.expire_all()
    with pytest.raises(ApiError, match="SESSION_TIMEOUT"):
        await working

"""The time limit: the work is cancelled, and the error says which side was late."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, NoReturn

import pytest
from aiohttp import web

from middlewares.context import CONTEXT, RECEIVING, RequestContext
from middlewares.errors import ApiError, error_handler
from middlewares.timeout import RequestTimeouts, timeout
from tests.middlewares.support import Alone, log_records

Work = Callable[[], Awaitable[Any]]


@pytest.mark.parametrize("seconds", [0, -0.001])
def test_seconds_must_be_positive(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^seconds must be positive$"):
        timeout(timeouts=RequestTimeouts(seconds))


@pytest.mark.parametrize(
    ("receiving", "status", "code", "details"),
    [
        (False, 504, "SESSION_TIMEOUT", "No answer within 30 seconds; try again"),
        (True, 408, "REQUEST_TIMEOUT", "The request body did not arrive within 30 seconds"),
    ],
)
async def test_expired_limit_cancels_the_work(
    alone: Alone, status: int, code: str, details: str, *, receiving: bool
) -> None:
    """The time before the middleware counts too."""
    cancelled = asyncio.Event()

    async def forever(request: web.Request) -> NoReturn:
        request[RECEIVING] = receiving
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()
        raise AssertionError

    middlewares = error_handler(), timeout(timeouts=RequestTimeouts(30))
    given = {"started_at": perf_counter() - 29.99}
    client = await alone(*middlewares, handler=forever, given=given)
    async with client.post("/") as response:
        assert response.status == status
        error = (await response.json())["error"]
        assert (error["code"], error["details"]) == (code, details)
        assert (response.headers.get("Connection") == "close") is receiving
    assert cancelled.is_set()


async def test_timeout_error_of_the_handler_is_not_the_limit(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(_: web.Request) -> NoReturn:
        raise TimeoutError

    middlewares = error_handler(), timeout(timeouts=RequestTimeouts(60))
    client = await alone(*middlewares, handler=failing, given={"started_at": perf_counter()})
    async with client.post("/") as response:
        assert response.status == 500
        assert (await response.json())["error"]["code"] == "INTERNAL_ERROR"
    [record] = log_records(caplog)
    assert record.exc_info


async def through(timeouts: RequestTimeouts, work: Work) -> Any:
    """Run a handler through the middleware, without a server."""
    context = RequestContext(started_at=perf_counter(), request_id="request-1", trace_id=None)
    request: Any = {CONTEXT: context}
    return await timeout(timeouts=timeouts)(request, lambda _: work())


async def test_one_timer_serves_all_limits() -> None:
    """Each task is cancelled when its own limit expires; one that has ended is not."""
    timeouts = RequestTimeouts(0.1)
    begins = perf_counter()
    expired_after: dict[str, float] = {}

    async def work(name: str, delay: float, seconds: float) -> None:
        await asyncio.sleep(delay)
        try:
            await through(timeouts, lambda: asyncio.sleep(seconds))
        except ApiError:
            expired_after[name] = perf_counter() - begins - delay

    works = [("first", 0, 9), ("short", 0.02, 0.01), ("second", 0.04, 9), ("late", 0.2, 9)]
    await asyncio.gather(*(work(*each) for each in works))
    assert list(expired_after) == ["first", "second", "late"]
    assert min(expired_after.values()) >= 0.1


async def begin(timeouts: RequestTimeouts, work: Work) -> asyncio.Task[Any]:
    """Run a handler through the middleware in a task, until it waits."""
    working = asyncio.create_task(through(timeouts, work))
    await asyncio.sleep(0)
    return working


@pytest.mark.parametrize("expires", [False, True])
async def test_cancellation_by_another_party_passes(*, expires: bool) -> None:
    timeouts = RequestTimeouts(60)
    working = await begin(timeouts, asyncio.Event().wait)
    if expires:
        timeouts.expire_all()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_handler_that_suppresses_cancellation_is_answered() -> None:
    timeouts = RequestTimeouts(60)

    async def stubborn() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    working = await begin(timeouts, stubborn)
    timeouts.expire_all()
    await working
    assert working.cancelling() == 0


async def test_handler_that_converts_cancellation_to_timeout_error_is_504() -> None:
    timeouts = RequestTimeouts(60)

    async def mistaken() -> NoReturn:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise TimeoutError from None
        raise AssertionError

    working = await begin(timeouts, mistaken)
    timeouts.expire_all()
    with pytest.raises(ApiError, match="SESSION_TIMEOUT"):
        await working


async def test_cancellation_suppressed_outside_is_not_counted() -> None:
    timeouts = RequestTimeouts(60)

    async def suppress_cancellation() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await through(timeouts, asyncio.Event().wait)

    working = asyncio.create_task(suppress_cancellation())
    await asyncio.sleep(0)
    working.cancel()
    await asyncio.sleep(0)
    timeouts.expire_all()
    with pytest.raises(ApiError, match="SESSION_TIMEOUT"):
        await working

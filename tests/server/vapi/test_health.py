"""Vapi's health: the state after each answer, the next check, and requests that wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from middlewares.errors import ApiError
from rig.service import ASSISTANT_ID, PRIVATE_KEY
from rig.vapi import vapi
from sandbox.vapi.app import REQUESTS
from sandbox.vapi.behaviour import Behaviour, Fault
from server.vapi import health as vapi_module
from server.vapi.health import CheckQueue, Status, VapiHealth, VapiHealthMonitor, VapiState
from tests.table import NOWHERE

REJECTED = (400, 401, 403, 404)
FAILED: tuple[Status, ...] = ("timeout", 500, 503, 429, 302, 201, 402)


def monitor(
    url: str = f"http://{NOWHERE}",
    interval: float = 30,
    timeout: float = 30,
    assistant_id: str = "assistant",
) -> VapiHealthMonitor:
    """Return a monitor."""
    return VapiHealthMonitor(
        base_url=url,
        api_key=PRIVATE_KEY,
        assistant_id=assistant_id,
        interval=interval,
        timeout=timeout,
    )


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ([], VapiState.UNKNOWN),
        ([200], VapiState.UP),
        *(([status], VapiState.MISCONFIGURED) for status in REJECTED),
        *(([status], VapiState.DOWN) for status in FAILED),
        *(([200, status], VapiState.UP) for status in FAILED),
        *(([200, status, status], VapiState.DOWN) for status in FAILED),
        *(([200, status], VapiState.MISCONFIGURED) for status in REJECTED),
        ([200, 500, 200, 500], VapiState.UP),
        ([200, 500, 429], VapiState.DOWN),
        ([200, 500, 500, 200], VapiState.UP),
        ([200, 500, 401, 200, 500], VapiState.UP),
        ([404, 500], VapiState.DOWN),
        ([404, 200], VapiState.UP),
        ([500, 200, 500], VapiState.UP),
    ],
)
def test_state_after_answers(answers: list[Status], state: VapiState) -> None:
    one = monitor()
    for answer in answers:
        one.record_status(answer)
    assert one.state is state


def test_failures_are_retried_within_a_second_then_with_backoff() -> None:
    one = monitor(interval=30)
    assert one.record_status(200) == 30
    delays = [one.record_status(500) for _ in range(40)]
    assert delays[0] <= 0.5 < delays[1] <= 1 < delays[2] <= 2 < delays[3]
    assert 22.5 <= delays[-1] <= 30
    assert one.record_status(401) == 30
    assert one.record_status(500) <= 0.5


def test_delay_is_never_longer_than_the_interval() -> None:
    one = monitor(interval=0.1)
    assert max(one.record_status(status) for status in (500, 500, 500, 401, 200)) == 0.1


async def test_down_is_refused_with_retry_after() -> None:
    one = monitor()
    one.record_status("timeout")
    with pytest.raises(ApiError, match="temporarily unavailable") as caught:
        await one.ensure_available()
    assert caught.value.headers["Retry-After"] == "1"
    one._next_check = monotonic() + 19.5
    with pytest.raises(ApiError) as caught:
        await one.ensure_available()
    assert caught.value.headers["Retry-After"] == "20"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Behaviour(), 200),
        (Behaviour(Fault.STATUS, status=503), 503),
        (Behaviour(Fault.STATUS, status=302), 302),
        (Behaviour(Fault.HUGE), 200),
        (Behaviour(Fault.TRICKLE_BODY, pause=3600), 200),
        (Behaviour(Fault.HANG), "timeout"),
        (Behaviour(Fault.TRICKLE_HEADERS, pause=0.01), "timeout"),
        (Behaviour(Fault.JUNK), "the answer is not HTTP"),
        (Behaviour(Fault.RESET), "the connection failed: Connection reset by peer"),
    ],
    ids=lambda value: str(value.fault) if isinstance(value, Behaviour) else str(value),
)
async def test_one_request_returns_its_status_or_the_cause(
    fault: Behaviour, status: Status
) -> None:
    async with vapi(fault) as stand_in, ClientSession() as session:
        never_ends = fault.fault in {Fault.HANG, Fault.TRICKLE_HEADERS}
        timeout = 0.1 if never_ends else 30
        one = monitor(stand_in.url, timeout=timeout, assistant_id=ASSISTANT_ID)
        assert await one.fetch_status(session) == status
        assert set(stand_in.requests) == {f"GET /assistant/{ASSISTANT_ID}"}


async def test_refused_connection_is_no_answer() -> None:
    async with ClientSession() as session:
        assert await monitor().fetch_status(session) == "the connection failed: Connection refused"


async def test_assistant_id_stays_one_path_segment() -> None:
    async with vapi() as stand_in, ClientSession() as session:
        one = monitor(f"{stand_in.url}/base/", assistant_id="../call?x#y/z%2f")
        await one.fetch_status(session)
        (asked,) = stand_in.app[REQUESTS]
        assert asked == "GET /base/assistant/../call?x#y/z%2f"


async def test_checks_continue_until_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    async with vapi(Behaviour(Fault.STATUS, status=404)) as stand_in, ClientSession() as session:
        one = monitor(stand_in.url, interval=0.001)
        running = asyncio.create_task(one.run(session))
        async with asyncio.timeout(10):
            while len(stand_in.requests) < 5:  # noqa: ASYNC110  the stand-in announces nothing
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
    reported = [record for record in caplog.records if record.name == vapi_module.__name__]
    assert [record.levelname for record in reported] == ["ERROR"]


def test_only_transitions_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    one = monitor()
    for status in (200, 200, 500, 500, 500, 200, 401, 401):
        one.record_status(status)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["INFO", "ERROR", "INFO", "ERROR"]


def several(url: str, count: int = 200, interval: float = 30) -> VapiHealth:
    """Return the health of several assistants with the ids 0, 1 and so on."""
    names = {str(number): [f"n{number}"] for number in range(count)}
    return VapiHealth(base_url=url, api_key=PRIVATE_KEY, names=names, interval=interval, timeout=30)


class SlowVapi:
    """Answers each check after `pause` seconds; counts how many are open."""

    def __init__(self, pause: float, status: int = 200) -> None:
        self.pause, self.status = pause, status
        self.open = self.most = 0
        self.asked: list[str] = []

    async def assistant(self, request: web.Request) -> web.Response:
        self.asked.append(request.match_info["id"])
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(self.pause)
        self.open -= 1
        return web.Response(status=self.status)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/assistant/{id}", self.assistant)
        async with TestServer(app) as server:
            yield str(server.make_url(""))


@asynccontextmanager
async def checking(health: VapiHealth) -> AsyncIterator[None]:
    """Run the checks."""
    async with ClientSession() as session:
        task = asyncio.create_task(health.run(session))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_first_round_is_bounded_and_later_ones_are_spread() -> None:
    slow = SlowVapi(0.002)
    async with slow.running() as url:
        health = several(url)
        assert (health.state, health.has_verdict) == (VapiState.UNKNOWN, False)
        async with checking(health), asyncio.timeout(10):
            for number in range(200):
                await health.ensure_available(str(number))
            assert (health.state, health.has_verdict, slow.most) == (VapiState.UP, True, 8)
            count = len(slow.asked)
            await asyncio.sleep(0.6)
            # 200 in 30 seconds are 4 in 0.6 seconds.
            assert 200 <= count <= 240
            assert len(slow.asked) - count <= 30


async def test_an_assistant_that_a_request_waits_for_is_next() -> None:
    slow = SlowVapi(0.05)
    async with slow.running() as url:
        health = several(url)
        async with checking(health):
            await asyncio.sleep(0.01)
            await health.ensure_available("199")
        assert slow.asked.index("199") < 17


async def test_429_slows_all_checks_down() -> None:
    slow = SlowVapi(0, status=429)
    async with slow.running() as url, checking(several(url)):
        await asyncio.sleep(0.6)
    assert 8 <= len(slow.asked) <= 40


async def test_checks_end_while_others_wait() -> None:
    slow = SlowVapi(0.01)
    async with slow.running() as url:
        health = several(url, count=20)
        for delay in (0, 0.001, 0.011, 0.012):
            async with checking(health):
                await asyncio.sleep(delay)
        async with checking(health), asyncio.timeout(10):
            await health.ensure_available("19")  # all turns have been returned


async def test_a_turn_that_was_given_to_a_cancelled_check_is_passed_on() -> None:
    queue, one = CheckQueue(longest=0), monitor()

    async def take() -> None:
        async with queue.turn(one):
            await asyncio.Event().wait()

    holders = [asyncio.create_task(take()) for _ in range(8)]
    await asyncio.sleep(0)
    waiting = [
        asyncio.create_task(queue.turn(each).__aenter__()) for each in (monitor(), monitor())
    ]
    await asyncio.sleep(0)
    holders[0].cancel()
    await asyncio.sleep(0)  # the turn is given to the first, which has not run
    waiting[0].cancel()
    async with asyncio.timeout(10):
        await waiting[1]
    for task in holders:
        task.cancel()
    await asyncio.gather(*holders, *waiting, return_exceptions=True)


def test_state_of_several() -> None:
    health = several("http://127.0.0.1:1", count=2)
    first, second = health._monitors.values()
    first.record_status(200)
    states = [health.state]
    second.record_status(200)
    states.append(health.state)
    for one in (first, second):
        one.record_status(404)
    states.append(health.state)
    assert states == [VapiState.DEGRADED, VapiState.UP, VapiState.DEGRADED]
    assert health.has_verdict


def test_log_names_the_assistant(caplog: pytest.LogCaptureFixture) -> None:
    first, _ = several("http://127.0.0.1:1", count=2)._monitors.values()
    first.record_status(404)
    assert caplog.records[0].getMessage().startswith("n0: sessions are refused")

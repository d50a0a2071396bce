"""A server that leaves: nobody in flight is lost, and everybody is told."""

import asyncio

import pytest
from aiohttp import ClientSession, web
from aiohttp.typedefs import Handler, Middleware

from server.app import create_app
from server.serving.runner import Runner, WorkerRunner
from server.serving.state import DRAINING
from tests.support import Service, make_settings, sign
from tests.wire import dial, head, post


def holding(arrived: asyncio.Event, go: asyncio.Event) -> Middleware:
    """Make a link that holds requests until they are let go."""

    @web.middleware
    async def hold(request: web.Request, handler: Handler) -> web.StreamResponse:
        arrived.set()
        await go.wait()
        return await handler(request)

    return hold


async def start(kind: type[Runner], *links: Middleware, grace: float = 1) -> tuple[Runner, Service]:
    """Serve on a free port."""
    app = create_app(make_settings())
    app.middlewares.extend(links)
    runner = kind(app, grace=grace)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, Service(f"http://127.0.0.1:{runner.addresses[0][1]}", ClientSession(), app)


@pytest.mark.parametrize("kind", [Runner, WorkerRunner])
async def test_a_request_in_flight_is_answered_and_its_connection_closed(
    kind: type[Runner],
) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()
    runner, service = await start(kind, holding(arrived, go))
    async with service.client, dial(service) as wire:
        await wire.send(post(b"{}", token=sign()))
        await arrived.wait()
        ending = asyncio.create_task(runner.cleanup())
        await service.app[DRAINING].wait()
        go.set()
        answer = await wire.answer()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert await wire.rest() == b""
        await ending


async def test_an_idle_connection_may_ask_once_more() -> None:
    runner, service = await start(Runner)
    async with service.client, dial(service) as wire:
        await wire.send(head(method="GET", path="/readyz"))
        assert (await wire.answer()).status == 200
        ending = asyncio.create_task(runner.cleanup())
        await service.app[DRAINING].wait()
        await wire.send(head(method="GET", path="/readyz"))
        answer = await wire.answer()
        assert (answer.status, answer.json["status"]) == (503, "shutting down")
        assert answer.headers["Connection"] == "close"
        await ending


async def test_nobody_new_gets_in() -> None:
    runner, service = await start(Runner, grace=0.1)
    async with service.client:
        await runner.cleanup()
        with pytest.raises(ConnectionRefusedError):
            async with dial(service):
                pass


async def test_whoever_still_waits_when_the_grace_ends_is_told_that_time_has_run_out() -> None:
    arrived = asyncio.Event()
    runner, service = await start(Runner, holding(arrived, asyncio.Event()), grace=0.1)
    async with service.client, dial(service) as wire:
        await wire.send(post(b"{}", token=sign()))
        await arrived.wait()
        await runner.cleanup()
        assert (await wire.answer()).code == "SESSION_TIMEOUT"
        assert await wire.rest() == b""


async def test_whoever_still_sends_when_the_grace_ends_is_told_so() -> None:
    announced = ("Content-Type: application/json", "Content-Length: 9", "Expect: 100-continue")
    runner, service = await start(Runner, grace=0.1)
    async with service.client, dial(service) as wire:
        await wire.send(head(*announced, token=sign()))
        assert (await wire.answer()).status == 100
        await runner.cleanup()
        assert (await wire.answer()).code == "REQUEST_TIMEOUT"
        assert await wire.rest() == b""


async def test_its_end_can_be_announced_before_it_comes() -> None:
    runner, service = await start(Runner, grace=0.1)
    async with service.client:
        await runner.begin_drain()
        assert (await service.ask("GET", "/readyz")).json["status"] == "shutting down"
        await runner.cleanup()


async def test_one_that_never_started_can_be_ended() -> None:
    await Runner(create_app(make_settings()), grace=0.1).cleanup()

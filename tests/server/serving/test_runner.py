"""Graceful shutdown: each request is answered, and each connection is closed."""

import asyncio
from time import monotonic

import pytest
from aiohttp import ClientSession, web
from aiohttp.typedefs import Handler, Middleware

from rig.service import Service, make_settings, sign
from rig.wire import dial, head, post
from server.app import create_app
from server.serving.runner import Runner, WorkerRunner
from server.serving.state import DRAINING


def holding(arrived: asyncio.Event, go: asyncio.Event) -> Middleware:
    """Return a middleware that holds requests until `go` is set."""

    @web.middleware
    async def hold(request: web.Request, handler: Handler) -> web.StreamResponse:
        arrived.set()
        await go.wait()
        return await handler(request)

    return hold


async def start(
    kind: type[Runner], *middlewares: Middleware, grace: float = 1
) -> tuple[Runner, Service]:
    """Serve on a free port."""
    app = create_app(make_settings())
    app.middlewares.extend(middlewares)
    runner = kind(app, grace=grace)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, Service(f"http://127.0.0.1:{runner.addresses[0][1]}", ClientSession(), app)


@pytest.mark.parametrize("kind", [Runner, WorkerRunner])
async def test_request_in_flight_is_answered_and_its_connection_closed(
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


async def test_idle_connection_may_send_one_more_request() -> None:
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


@pytest.mark.parametrize("before", [b"", head(method="GET", path="/healthz")], ids=["new", "used"])
async def test_idle_connection_is_closed_before_the_grace_ends(before: bytes) -> None:
    runner, service = await start(Runner, grace=2)
    async with service.client, dial(service) as wire:
        if before:
            await wire.send(before)
            await wire.answer()
        began = monotonic()
        ending = asyncio.create_task(runner.cleanup())
        assert await wire.rest() == b""
        await ending
        assert monotonic() - began < 0.35 * 2


async def test_idle_connection_with_a_request_in_the_kernel_is_answered() -> None:
    runner, service = await start(Runner)
    assert runner.server is not None
    async with service.client, dial(service) as wire:
        await wire.send(head(method="GET", path="/healthz"))
        await wire.answer()
        service.app[DRAINING].set()
        await wire.send(head(method="GET", path="/healthz"))  # not yet read by the service
        runner.server.pre_shutdown()
        answer = await wire.answer()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
    await runner.cleanup()


@pytest.mark.parametrize("size", [10, 6000])
async def test_head_that_has_begun_to_arrive_is_answered(size: int) -> None:
    runner, service = await start(Runner)
    assert runner.server is not None
    request = head("X-A: " + "a" * 7000, method="GET", path="/healthz")
    async with service.client, dial(service) as wire:
        await wire.send(request[:size])
        assert (await service.ask("GET", "/healthz")).status == 200  # by now that has been read
        service.app[DRAINING].set()
        runner.server.pre_shutdown()
        await wire.send(request[size:])
        answer = await wire.answer()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
    await runner.cleanup()


async def test_body_that_is_arriving_is_read_to_its_end() -> None:
    runner, service = await start(Runner)
    assert runner.server is not None
    request = post(b'{"patientContext": {"id": "pt_1"}}', token=sign())
    async with service.client, dial(service) as wire:
        await wire.send(request[:-5])
        assert (await service.ask("GET", "/healthz")).status == 200  # by now that has been read
        service.app[DRAINING].set()
        runner.server.pre_shutdown()
        await wire.send(request[-5:])
        answer = await wire.answer()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
    await runner.cleanup()


async def test_new_connections_are_refused() -> None:
    runner, service = await start(Runner, grace=0.1)
    async with service.client:
        await runner.cleanup()
        with pytest.raises(ConnectionRefusedError):
            async with dial(service):
                pass


async def test_request_in_flight_times_out_when_the_grace_ends() -> None:
    arrived = asyncio.Event()
    runner, service = await start(Runner, holding(arrived, asyncio.Event()), grace=0.1)
    async with service.client, dial(service) as wire:
        await wire.send(post(b"{}", token=sign()))
        await arrived.wait()
        await runner.cleanup()
        assert (await wire.answer()).code == "SESSION_TIMEOUT"
        assert await wire.rest() == b""


async def test_incomplete_body_times_out_when_the_grace_ends() -> None:
    announced = ("Content-Type: application/json", "Content-Length: 9", "Expect: 100-continue")
    runner, service = await start(Runner, grace=0.1)
    async with service.client, dial(service) as wire:
        await wire.send(head(*announced, token=sign()))
        assert (await wire.answer()).status == 100
        await runner.cleanup()
        assert (await wire.answer()).code == "REQUEST_TIMEOUT"
        assert await wire.rest() == b""


async def test_draining_begins_before_the_cleanup() -> None:
    runner, service = await start(Runner, grace=0.1)
    async with service.client:
        await runner.begin_drain()
        assert (await service.ask("GET", "/readyz")).json["status"] == "shutting down"
        await runner.cleanup()


async def test_cleanup_without_setup() -> None:
    await Runner(create_app(make_settings()), grace=0.1).cleanup()

"""Serving in this process, and graceful shutdown: each request is answered."""

import asyncio
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from aiohttp import ClientConnectorError, ClientSession, web
from aiohttp.typedefs import Handler, Middleware

from rig.process import ALONE, started
from rig.service import PATH, VARIABLES, Service, make_settings, sign
from rig.waiting import eventually
from rig.wire import dial, head, post
from server.app import create_app
from server.serving import connection_limits
from server.serving.gunicorn import WorkerRunner
from server.serving.run import Runner, serve, stop_accepting
from server.serving.server import INTERFACE
from tests.table import NOWHERE


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
        await service.app[INTERFACE].draining.wait()
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
        await service.app[INTERFACE].draining.wait()
        await wire.send(head(method="GET", path="/readyz"))
        answer = await wire.answer()
        assert (answer.status, answer.json["status"]) == (503, "shutting down")
        assert answer.headers["Connection"] == "close"
        await ending


@pytest.mark.parametrize("kind", [Runner, WorkerRunner])
@pytest.mark.parametrize("before", [b"", head(method="GET", path="/healthz")], ids=["new", "used"])
async def test_idle_connection_is_closed_before_the_grace_ends(
    kind: type[Runner], before: bytes
) -> None:
    runner, service = await start(kind, grace=2)
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
        service.app[INTERFACE].draining.set()
        await wire.send(head(method="GET", path="/healthz"))  # not yet read by the service
        runner.server.pre_shutdown()
        answer = await wire.answer()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
    await runner.cleanup()


async def test_request_that_waits_for_its_turn_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, service = await start(Runner)
    assert runner.server is not None
    monkeypatch.setattr(connection_limits, "REQUESTS_IN_A_TURN", 0)  # from the next turn on
    async with service.client, dial(service) as wire:
        await wire.send(head(method="GET", path="/healthz"))
        await wire.answer()
        service.app[INTERFACE].draining.set()
        await wire.send(head(method="GET", path="/healthz"))
        for _ in range(20):
            await asyncio.sleep(0)  # by now the service has read it
        runner.server.pre_shutdown()
        monkeypatch.setattr(connection_limits, "REQUESTS_IN_A_TURN", 1)
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
        service.app[INTERFACE].draining.set()
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
        service.app[INTERFACE].draining.set()
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_terminates_the_service(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    app = create_app(make_settings())
    serving_ = asyncio.create_task(
        serve(app, "127.0.0.1", 0, grace=0.1, on_start=started.set_result)
    )
    url = f"http://127.0.0.1:{await started}"
    assert f"serving on 127.0.0.1 port {url.rpartition(':')[2]}" in caplog.text
    async with ClientSession() as client, client.get(f"{url}/healthz") as answer:
        assert answer.status == 200
    os.kill(os.getpid(), number)
    await serving_
    async with ClientSession() as client:
        with pytest.raises(ClientConnectorError):
            await client.get(url)


async def is_shutting_down(client: ClientSession, url: str) -> bool:
    async with client.get(f"{url}/readyz") as answer:
        return answer.status == 503 and (await answer.json())["status"] == "shutting down"


async def test_second_sigint_ends_the_process_at_once(tmp_path: Path) -> None:
    variables = {**VARIABLES, "SHUTDOWN_DELAY_SECONDS": "30"}
    async with started(ALONE, tmp_path, variables) as served, ClientSession() as client:
        served.process.send_signal(signal.SIGINT)
        await eventually(lambda: is_shutting_down(client, served.url))
        ended = await served.terminate(signal.SIGINT)
    assert ended.status == -signal.SIGINT
    assert "Traceback" not in ended.err


async def test_all_addresses_are_those_of_both_families(tmp_path: Path) -> None:
    async with (
        started(ALONE, tmp_path, {**VARIABLES, "HOST": "::"}) as served,
        ClientSession() as client,
    ):
        for host in ("127.0.0.1", "[::1]"):
            async with client.post(f"http://{host}:{served.port}{PATH}") as answer:
                assert answer.status == 401
        ended = await served.terminate()
    peers = [json.loads(line)["peer"] for line in ended.out.splitlines()]
    assert peers == ["127.0.0.1", "::1"]


async def test_failed_start_is_cleaned_up() -> None:
    def fail(_: int) -> None:
        raise ZeroDivisionError

    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        await serve(create_app(make_settings()), "127.0.0.1", 0, grace=0.1, on_start=fail)
    assert asyncio.all_tasks() == before


async def test_failed_startup_of_the_application_is_cleaned_up() -> None:
    async def fail(_: web.Application) -> None:
        raise ZeroDivisionError

    app = create_app(make_settings(VAPI_CHECK_SECONDS="30", VAPI_BASE_URL=f"http://{NOWHERE}"))
    app.on_startup.append(fail)
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        await serve(app, "127.0.0.1", 0, grace=0.1, on_start=print)
    assert asyncio.all_tasks() == before


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def start_connecting(listener: socket.socket) -> socket.socket:
    """Begin to connect, without waiting."""
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(listener.getsockname())
    return client


def is_connected(client: socket.socket) -> bool:
    """Return at once: on loopback the kernel answers before `connect` returns, if at all."""
    return bool(select.select([], [client], [], 0)[1])


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_no_new_connection_is_established(listener: socket.socket) -> None:
    with start_connecting(listener) as client:
        assert is_connected(client)
    stop_accepting([listener])
    with start_connecting(listener) as client:
        assert not is_connected(client)


def test_connection_in_the_queue_is_accepted(listener: socket.socket) -> None:
    with start_connecting(listener) as client:
        client.setblocking(True)
        stop_accepting([listener])
        served, _ = listener.accept()
        with served:
            client.sendall(b"request!")
            assert served.recv(8) == b"request!"
            served.sendall(b"answer")
            assert client.recv(6) == b"answer"


def test_closed_socket_is_ignored() -> None:
    closed = socket.socket()
    closed.close()
    stop_accepting([closed])

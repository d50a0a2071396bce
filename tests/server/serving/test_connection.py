"""The life of a connection: times, half-closed connections, errors outside the middlewares."""

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGTERM
from time import monotonic
from typing import Any, NoReturn

import pytest
from aiohttp import ClientConnectionError, ClientSession, ServerDisconnectedError, web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from rig.service import Service, make_settings, running, sign
from rig.waiting import eventually
from rig.wire import Wire, dial, head, post
from server.app import create_app
from server.serving import connection
from server.serving import connection_limits as limits
from server.serving.run import Runner, serve
from tests.conftest import AuditLines, Serve


@asynccontextmanager
async def served(
    *in_front: Middleware, on_prepare: Callable[..., Awaitable[None]] | None = None
) -> AsyncIterator[str]:
    """Serve with middlewares in front of all others; yield the URL of one of the routes."""
    app = create_app(make_settings())
    app.middlewares[:0] = in_front
    if on_prepare is not None:
        app.on_response_prepare.append(on_prepare)
    runner = Runner(app, grace=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/healthz"
    finally:
        await runner.cleanup()


async def test_malformed_framing_of_a_body_is_rejected_at_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    service = await serve(SESSION_BUDGET_SECONDS="50")
    port = int(service.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(CHUNKED.partition(b"2\r\n{}")[0] + b"1\r\n{\r\n")
    await service.ask("GET", "/healthz")  # by now the service waits for the body
    writer.write(b"no number\r\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"INVALID_REQUEST"' in answer
    assert not [record for record in caplog.records if record.exc_info]
    writer.close()


async def test_exception_before_the_middlewares_is_logged_and_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @web.middleware
    async def fail(request: web.Request, handler: Handler) -> web.StreamResponse:
        raise ZeroDivisionError("a secret detail")

    async with (
        served(fail) as url,
        ClientSession() as client,
        client.get(url) as response,
    ):
        assert response.status == 500
        assert (await response.json())["error"]["code"] == "INTERNAL_ERROR"
        request_id = response.headers["X-Request-ID"]
        assert request_id in await response.text()
        assert "secret" not in await response.text()
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.__dict__["request_id"] == request_id


async def test_exception_in_the_middle_of_a_response_leaves_it_incomplete(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @web.middleware
    async def fail(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a part")
        raise ZeroDivisionError

    async with served(fail) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        _, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert body == b"6\r\na part\r\n"
    assert "Unhandled exception" in caplog.text


async def test_redirect_before_the_middlewares_is_sent() -> None:
    @web.middleware
    async def redirect(request: web.Request, handler: Handler) -> web.StreamResponse:
        raise web.HTTPFound("/elsewhere")

    async with served(redirect) as url, ClientSession() as client:
        for _ in range(2):
            response = await client.get(url, allow_redirects=False)
            assert (response.status, response.headers["Location"]) == (302, "/elsewhere")
            assert "Connection" not in response.headers


async def test_what_never_ends_is_ended_with_the_grace() -> None:
    begins, ends = asyncio.Event(), asyncio.Event()

    @web.middleware
    async def hang(request: web.Request, handler: Handler) -> web.StreamResponse:
        begins.set()
        try:
            await asyncio.Event().wait()
        finally:
            ends.set()
        raise AssertionError

    async with ClientSession() as client:
        async with served(hang) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
            writer.write(b"GET / HT")
            asking = asyncio.create_task(client.get(url))
            await begins.wait()
        assert ends.is_set()
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(ClientConnectionError):
            await asking


async def test_exception_after_the_middlewares_is_logged_and_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_: web.Request, __: web.StreamResponse) -> NoReturn:
        raise ZeroDivisionError

    async with (
        served(on_prepare=fail) as url,
        ClientSession() as client,
    ):
        with pytest.raises(ServerDisconnectedError):
            await client.get(url, headers={"Connection": "close"})  # aiohttp sends the response
    assert "Unhandled exception" in caplog.text


async def test_unix_domain_socket(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner = Runner(create_app(make_settings()), grace=0.1)
    await runner.setup()
    try:
        await web.UnixSite(runner, tmp_path / "socket").start()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
        for _ in range(2):
            writer.write(head(method="GET", path="/healthz"))
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        writer.close()
    finally:
        await runner.cleanup()
    assert not [record for record in caplog.records if record.exc_info]


TOKEN = sign()
REQUEST = post(b"{}", token=TOKEN)
CHUNKED = (
    head("Transfer-Encoding: chunked", "Content-Type: application/json", token=TOKEN)
    + b"2\r\n{}\r\n0\r\n\r\n"
)


def delayed(until: asyncio.Event) -> Middleware:
    """Return a middleware that delays sessions until `until` is set."""

    @web.middleware
    async def delay(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST":
            await until.wait()
        return await handler(request)

    return delay


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_every_request_before_the_end_is_answered(service: Service, count: int) -> None:
    async with dial(service) as wire:
        await wire.send(head(method="GET", path="/healthz") * (count - 1) + REQUEST)
        wire.end()
        assert [(await wire.answer()).status for _ in range(count)] == [200] * count
        assert await wire.rest() == b""


async def test_last_response_closes_the_connection(service: Service) -> None:
    async with dial(service) as wire:
        await wire.send(REQUEST)
        assert "Connection" not in (await wire.answer()).headers
        await wire.send(REQUEST)
        wire.end()
        await wire.answer()
        assert await wire.rest() == b""


async def test_response_under_way_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    go = asyncio.Event()
    async with running(make_settings(), delayed(go)) as service, dial(service) as wire:
        await wire.send(REQUEST)
        wire.end()
        await asyncio.sleep(0.3)  # by now the end has been read
        go.set()
        assert (await wire.answer()).status == 200
        assert await wire.rest() == b""


async def test_client_that_left_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch, audit_lines: AuditLines
) -> None:
    monkeypatch.setattr(limits, "HALF_CLOSED_SECONDS", 0.01)
    lines = []

    async def audited() -> bool:
        lines.extend(audit_lines())
        return bool(lines)

    settings = make_settings(SESSION_BUDGET_SECONDS="50")
    async with running(settings, delayed(asyncio.Event())) as service, dial(service) as wire:
        await wire.send(REQUEST)
        wire.leave()
        await eventually(audited)
    assert [line["status"] for line in lines] == [499]


async def test_incomplete_head_is_not_well_formed(service: Service) -> None:
    for sent in (b"GET / HT", b"hello", REQUEST[:-5], head("X-A: " + "a" * 9000)[:-2]):
        async with dial(service) as wire:
            await wire.send(sent)
            wire.end()
            answer = await wire.answer()
            assert (answer.status, answer.code) == (400, "INVALID_REQUEST"), sent
            assert await wire.rest() == b""


async def test_incomplete_body_ends_the_request(service: Service, audit_lines: AuditLines) -> None:
    async with dial(service) as wire:
        await wire.send(REQUEST[:-1])
        wire.end()
        assert await wire.rest() == b""
    assert [line["status"] for line in audit_lines()] == [499]


@pytest.mark.parametrize("before", [b"", REQUEST, CHUNKED])
async def test_empty_lines_are_ignored(service: Service, before: bytes) -> None:
    for sent in (b"", b"\r\n", b"\r\n\r\n"):
        for size in (1, 10_000):
            await assert_ignored(service, before, before + sent, size)


async def assert_ignored(service: Service, before: bytes, whole: bytes, size: int) -> None:
    async with dial(service) as wire:
        await wire.send_parts(*(whole[at : at + size] for at in range(0, len(whole), size)))
        wire.end()
        if before:
            assert (await wire.answer()).status == 200
        assert await wire.rest() == b""


@pytest.mark.parametrize("sent", [b"", b"POST /api/v1/ses"], ids=["nothing", "half a line"])
async def test_connection_without_a_first_request_is_closed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.01)
    service = await serve()
    port = int(service.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    assert await reader.read() == b""
    writer.close()


GET = head(method="GET", path="/healthz")


@asynccontextmanager
async def used(keepalive: float) -> AsyncIterator[Wire]:
    """Yield a connection that has had a response and may be idle for `keepalive` seconds."""
    settings = make_settings(KEEPALIVE_SECONDS=str(keepalive), SHUTDOWN_GRACE_SECONDS="0.1")
    async with running(settings) as service, dial(service) as wire:
        await wire.send(GET)
        assert (await wire.answer()).status == 200
        yield wire


async def test_idle_connection_is_closed_after_the_keepalive_time() -> None:
    began = monotonic()
    async with used(keepalive=0.3) as wire:
        assert await wire.rest() == b""
    assert monotonic() - began >= 0.3


async def test_connection_survives_the_time_for_the_first_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.1)
    async with used(keepalive=100) as wire:
        for _ in range(2):
            await asyncio.sleep(0.15)
            await wire.send(GET)
            assert (await wire.answer()).status == 200


async def test_request_that_is_arriving_survives_the_keepalive_time() -> None:
    async with used(keepalive=0.2) as wire:
        for _ in range(2):
            await wire.send(GET[:1])
            await asyncio.sleep(0.4)
            await wire.send(GET[1:])
            assert (await wire.answer()).status == 200
        began = monotonic()
        assert await wire.rest() == b""
        assert monotonic() - began < limits.HEAD_SECONDS / 2


async def test_request_that_waits_for_its_turn_survives_the_keepalive_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with used(keepalive=0.1) as wire:
        with monkeypatch.context() as patch:
            patch.setattr(limits, "REQUESTS_IN_A_TURN", 0)
            await wire.send(GET)
            assert (await wire.answer()).status == 200
            await wire.send(GET)
            await asyncio.sleep(0.25)
        assert (await wire.answer()).status == 200


async def test_time_for_a_head_counts_from_its_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    async with used(keepalive=0.2) as wire:
        monkeypatch.setattr(limits, "HEAD_SECONDS", 0.5)
        began = monotonic()
        sending = asyncio.create_task(drip(wire))
        assert await wire.rest() == b""
        assert 0.4 < monotonic() - began < 2
        sending.cancel()


async def drip(wire: Wire) -> None:
    """Send a header field that never ends, byte by byte."""
    await wire.send(GET[:-2] + b"X-A: ")
    while True:
        await wire.send(b"a")
        await asyncio.sleep(0.02)


def block(self: connection.Connection, *parsed: Any) -> None:
    """Begin a request, and keep the event loop busy after that."""
    BEGIN(self, *parsed)
    time.sleep(0.3)


BEGIN = connection.Connection._begin


async def test_waiting_for_the_event_loop_counts(
    serve: Serve, audit_lines: AuditLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.Connection, "_begin", block)
    service = await serve(SESSION_BUDGET_SECONDS="10")
    async with dial(service) as wire:
        await wire.send(post(b"{}", token=sign()))
        answer = await wire.answer()
    assert answer.status == 200
    assert float(answer.headers["Server-Timing"].removeprefix("total;dur=")) >= 300
    assert audit_lines()[0]["duration_ms"] >= 300


async def test_budget_can_end_before_the_first_middleware(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.Connection, "_begin", block)
    service = await serve(SESSION_BUDGET_SECONDS="0.2", VAPI_TIMEOUT_SECONDS="0.1")
    async with dial(service) as wire:
        request = post(b"{}", token=sign())
        await wire.send(request[:-1])
        answer = await wire.answer()
    assert answer.code == "REQUEST_TIMEOUT"


async def test_large_body_arrives_without_stalls() -> None:
    app = create_app(make_settings(MAX_BODY_BYTES="1000000", RATE_LIMIT="off"))
    body = b" " * 800_000 + b"{}"
    ports: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(app, "127.0.0.1", 0, grace=0.1, on_start=ports.set_result))
    async with ClientSession() as client:
        service = Service(f"http://127.0.0.1:{await ports}", client, app)
        for _ in range(5):
            async with dial(service) as wire:
                began = time.monotonic()
                sending = asyncio.create_task(wire.send(post(body, token=sign())))
                assert (await wire.answer()).status == 200
                assert time.monotonic() - began < 1
                await sending
    os.kill(os.getpid(), SIGTERM)
    await serving


def requests() -> int:
    return sum(isinstance(each, web.Request) for each in gc.get_objects())


async def test_client_that_leaves_before_its_body_arrived_leaves_no_memory(
    service: Service,
) -> None:
    async def freed() -> bool:
        return requests() == before

    gc.collect()
    before = requests()
    gc.disable()
    try:
        async with dial(service) as wire:
            await wire.send(head("Content-Length: 9"))
            assert (await wire.answer()).status == 401
            wire.leave()
        await eventually(freed)
    finally:
        gc.enable()

"""Clients that read slowly or not at all, and the turns in which requests begin."""

import asyncio
import re
import socket
from contextlib import AsyncExitStack
from time import sleep

import pytest

from rig.service import Service, sign
from rig.waiting import eventually
from rig.wire import dial, head, post
from server.serving import connection_limits as limits
from server.serving import transport
from server.serving.server import INTERFACE
from tests.conftest import AuditLines, Serve

DOCUMENT = head(method="GET", path="/openapi.json")


def connect(service: Service, buffer: int = 1) -> socket.socket:
    """Connect with a small receive buffer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.connect(("127.0.0.1", int(service.url.rpartition(":")[2])))
    client.setblocking(False)
    return client


async def is_gone(service: Service) -> bool:
    return service.app[INTERFACE].connections.open == 0


# One response waits in the kernel; of a hundred, some wait in the process.
@pytest.mark.parametrize("requests", [1, 100])
async def test_client_that_reads_nothing_is_disconnected(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    monkeypatch.setattr(limits, "UNREAD_SECONDS", 0.2)
    service = await serve()
    with connect(service) as client:
        await asyncio.get_running_loop().sock_sendall(client, DOCUMENT * requests)
        await eventually(lambda: has_connected(service))
        await eventually(lambda: is_gone(service))


async def has_connected(service: Service) -> bool:
    return service.app[INTERFACE].connections.open > 0


async def test_client_that_reads_slowly_gets_everything(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNREAD_SECONDS", 0.5)
    service = await serve()
    loop = asyncio.get_running_loop()
    whole = (await service.ask("GET", "/openapi.json")).body
    with connect(service, 8192) as client:
        last = DOCUMENT.replace(b"Host", b"Connection: close\r\nHost")
        sending = asyncio.create_task(loop.sock_sendall(client, DOCUMENT * 49 + last))
        received, began = b"", loop.time()
        while part := await loop.sock_recv(client, 16384):
            received += part
            await asyncio.sleep(0.03)  # the pace is what is tested
        await sending
    assert received.count(whole) == 50
    assert loop.time() - began > 2 * limits.UNREAD_SECONDS


async def test_systems_without_options_of_linux(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_TCP_USER_TIMEOUT", None)
    monkeypatch.setattr(transport, "_TCP_INFO", None)
    service = await serve(METRICS_ENABLED="true")
    assert (await service.start(sign())).status == 200


async def test_large_response_arrives_whole_at_the_pace_of_the_client(serve: Serve) -> None:
    service = await serve(
        DOCS_ENABLED="true", SESSION_BUDGET_SECONDS="0.2", VAPI_TIMEOUT_SECONDS="0.1"
    )
    path = "/docs/swagger-ui-bundle.js"
    whole = (await service.ask("GET", path)).body
    assert len(whole) > 1_000_000
    announced = (await service.ask("HEAD", path)).response.headers
    assert announced["Content-Length"] == str(len(whole))
    async with dial(service) as wire:
        await wire.send(head(method="GET", path=path))
        await asyncio.sleep(0.3)  # longer than a request may take
        assert (await wire.answer()).body == whole


def test_body_of_a_large_response_as_text() -> None:
    assert transport.PacedBody("é".encode()).decode() == "é"


async def test_new_client_does_not_wait_for_all_others(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, audit_lines: AuditLines
) -> None:
    monkeypatch.setattr(limits, "REQUESTS_IN_A_TURN", 2)
    service = await serve()
    async with AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(dial(service)) for _ in range(60)]
        for wire in busy:
            await wire.send(head(method="GET", path="/healthz"))
            assert (await wire.answer()).status == 200
        for wire in busy:
            await wire.send(post(b"{}") * 10)
        new = await stack.enter_async_context(dial(service))
        await new.send(post(b"{}", "X-Request-ID: new"))
        assert (await new.answer()).status == 401
        before = [line["request_id"] for line in audit_lines()].index("new")
        assert before < len(busy)
        for wire in busy:
            assert [(await wire.answer()).status for _ in range(10)] == [401] * 10


@pytest.mark.parametrize(
    "whole",
    [post(b" " * 15_000 + b"{}", token=sign()), head(method="GET", path="/healthz") + b"\r\n"],
    ids=["large", "small"],
)
async def test_requests_that_wait_for_their_turn_are_whole_and_counted(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    monkeypatch.setattr(limits, "REQUESTS_IN_A_TURN", 1)
    service = await serve(RATE_LIMIT="off")
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(dial(service)) for _ in range(30)]
        for wire in wires:
            await wire.send(whole)
            wire.end()
        answers = [await wire.answer() for wire in wires]
        assert {answer.status for answer in answers} == {200}
        durations = [float(each.headers["Server-Timing"].partition("=")[2]) for each in answers]
        assert max(durations) > 2 * min(durations)
        assert [await wire.rest() for wire in wires] == [b""] * 30


@pytest.mark.parametrize("sent", [b"", post(b"{}")], ids=["silent", "request"])
async def test_wait_of_a_new_connection_is_measured(serve: Serve, sent: bytes) -> None:
    service = await serve(METRICS_ENABLED="true")
    with connect(service) as client:
        client.setblocking(True)
        client.sendall(sent)
        sleep(0.4)  # noqa: ASYNC251  blocks the event loop
        text = (await service.ask("GET", "/metrics")).body.decode()
    found = re.search(r"^vapi_sessions_accept_wait_seconds (\S+)$", text, re.MULTILINE)
    assert found is not None
    assert 0.3 < float(found[1]) < 5

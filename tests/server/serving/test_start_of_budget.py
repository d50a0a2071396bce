"""The time of a request counts from its head, also while it waits for the event loop."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession

from rig.service import Service, make_settings, sign
from rig.wire import dial, post
from server.app import create_app
from server.serving import connection
from server.serving.process import listen
from server.serving.runner import Runner
from tests.conftest import AuditLines, Serve


def block(self: connection.Connection, piece: bytes) -> None:
    """Parse, and keep the event loop busy after that."""
    PARSE(self, piece)
    time.sleep(0.3)


PARSE = connection.Connection._on_message


async def test_waiting_for_the_event_loop_counts(
    serve: Serve, audit_lines: AuditLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.Connection, "_on_message", block)
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
    monkeypatch.setattr(connection.Connection, "_on_message", block)
    service = await serve(SESSION_BUDGET_SECONDS="0.2", VAPI_TIMEOUT_SECONDS="0.1")
    async with dial(service) as wire:
        request = post(b"{}", token=sign())
        await wire.send(request[:-1])
        answer = await wire.answer()
    assert answer.code == "REQUEST_TIMEOUT"


@asynccontextmanager
async def accepting(**variables: str) -> AsyncIterator[Service]:
    """Serve with the listening sockets of a process."""
    app = create_app(make_settings(**variables))
    runner = Runner(app, grace=0.1)
    await runner.setup()
    listeners = list(listen("127.0.0.1", 0))
    try:
        runner.accept_from(listeners)
        url = f"http://127.0.0.1:{listeners[0].getsockname()[1]}"
        async with ClientSession() as client:
            yield Service(url, client, app)
    finally:
        await runner.cleanup()
        for listener in listeners:
            listener.close()


async def test_large_body_arrives_without_stalls() -> None:
    body = b" " * 800_000 + b"{}"
    async with accepting(MAX_BODY_BYTES="1000000", RATE_LIMIT="off") as service:
        for _ in range(5):
            async with dial(service) as wire:
                began = time.monotonic()
                sending = asyncio.create_task(wire.send(post(body, token=sign())))
                assert (await wire.answer()).status == 200
                assert time.monotonic() - began < 1
                await sending

"""The time for the head of a request, and between requests, is limited."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from aiohttp import ClientSession, web

from rig.service import Service, make_settings
from rig.wire import Wire, dial, head
from server.app import create_app
from server.serving import limits
from server.serving.runner import Runner
from tests.conftest import Serve


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
    app = create_app(make_settings())
    runner = Runner(app, grace=0.1, keepalive=keepalive)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        service = Service(f"http://127.0.0.1:{runner.addresses[0][1]}", ClientSession(), app)
        async with service.client, dial(service) as wire:
            await wire.send(GET)
            assert (await wire.answer()).status == 200
            yield wire
    finally:
        await runner.cleanup()


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
        assert await wire.rest() == b""


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

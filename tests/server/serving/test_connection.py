"""Errors outside the middlewares."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from aiohttp import ClientSession, ServerDisconnectedError, web
from aiohttp.typedefs import Handler

from rig.service import PATH, make_settings, sign
from rig.wire import head
from server.app import create_app
from server.serving.runner import Runner
from tests.conftest import Serve

CHUNKED = f"""POST {PATH} HTTP/1.1
Host: localhost
Authorization: Bearer {{}}
Content-Type: application/json
Transfer-Encoding: chunked

"""


@asynccontextmanager
async def served(change: Callable[[web.Application], None]) -> AsyncIterator[str]:
    """Serve the application after `change`; yield the URL of one of its routes."""
    app = create_app(make_settings())
    change(app)
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
    writer.write(CHUNKED.format(sign()).replace("\n", "\r\n").encode() + b"1\r\n{\r\n")
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

    def in_front(app: web.Application) -> None:
        app.middlewares.insert(0, fail)

    async with (
        served(in_front) as url,
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


async def test_exception_after_the_middlewares_is_logged_and_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_: web.Request, __: web.StreamResponse) -> NoReturn:
        raise ZeroDivisionError

    async with (
        served(lambda app: app.on_response_prepare.append(fail)) as url,
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

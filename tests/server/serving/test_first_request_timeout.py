"""The time for the first request of a connection is limited."""

import asyncio

import pytest

from server.serving import connection, limits
from tests.conftest import Serve
from tests.support import PATH, sign


@pytest.mark.parametrize("sent", [b"", b"POST /api/v1/ses"], ids=["nothing", "half a line"])
async def test_connection_without_a_first_request_is_closed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(limits, "FIRST_REQUEST_SECONDS", 0.01)
    service = await serve()
    port = int(service.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    assert await reader.read() == b""
    writer.close()


async def test_keepalive_connection_survives_first_request_timeout(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed_out = asyncio.Event()
    on_timeout = connection.Connection._on_first_timeout

    def watched(self: connection.Connection) -> None:
        on_timeout(self)
        timed_out.set()

    monkeypatch.setattr(connection.Connection, "_on_first_timeout", watched)
    monkeypatch.setattr(limits, "FIRST_REQUEST_SECONDS", 0.2)
    service = await serve()
    port = int(service.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        request = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign()}"
        writer.write(f"{request}\r\nContent-Length: 0\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await reader.readuntil(b'retrieved"}')
        await timed_out.wait()
    writer.close()

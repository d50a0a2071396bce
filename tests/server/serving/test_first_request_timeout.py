"""A client that connects and then says nothing, or not enough, is not waited for for ever."""

import asyncio

import pytest

from server.serving import connection, limits
from tests.conftest import Serve
from tests.support import PATH, sign


@pytest.mark.parametrize("said", [b"", b"POST /api/v1/ses"], ids=["nothing", "half a line"])
async def test_who_never_finishes_a_first_request_is_let_go(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(limits, "FIRST_REQUEST_SECONDS", 0.01)
    service = await serve()
    port = int(service.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    assert await reader.read() == b""
    writer.close()


async def test_who_has_asked_once_may_stay(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = asyncio.Event()
    give_up = connection.Connection._on_first_timeout

    def watched(self: connection.Connection) -> None:
        give_up(self)
        given_up.set()

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
        await given_up.wait()
    writer.close()

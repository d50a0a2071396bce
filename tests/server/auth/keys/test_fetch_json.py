"""Fetch of a small JSON document from an address that is not trusted."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from rig.issuer import Issuer, Respond, hang, hang_in_the_body, issuing, responding
from server.http_client import MAX_BYTES, FetchError, fetch_json, open_session

GZIP = {"Content-Encoding": "gzip"}
TOO_LARGE = "^more than 262144 bytes$"
FIFTY_MEGABYTES = 50 * 1024 * 1024


@pytest.fixture
async def site() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(FIFTY_MEGABYTES // 65536):
        await response.write(b" " * 65536)
    return response


async def download(site: Issuer, timeout: float = 5) -> object:  # noqa: ASYNC109  the option's name
    async with open_session() as session:
        return await fetch_json(session, site.url, timeout)


async def test_document_is_returned(site: Issuer) -> None:
    site.respond = responding(b'{"keys": []}')
    assert await download(site) == {"keys": []}


async def test_byte_order_mark_is_skipped(site: Issuer) -> None:
    site.respond = responding(b'\xef\xbb\xbf{"keys": []}')
    assert await download(site) == {"keys": []}


async def test_document_of_the_maximum_size_is_returned(site: Issuer) -> None:
    site.respond = responding(json.dumps("x" * (MAX_BYTES - 2)).encode())
    assert await download(site) == "x" * (MAX_BYTES - 2)


@pytest.mark.parametrize(
    ("respond", "reason"),
    [
        pytest.param(responding(b" " * MAX_BYTES + b"1"), TOO_LARGE, id="one byte too large"),
        pytest.param(responding(b" " * FIFTY_MEGABYTES), TOO_LARGE, id="50 MB with Content-Length"),
        pytest.param(endless, TOO_LARGE, id="50 MB, in chunks"),
        pytest.param(
            responding(gzip.compress(b" " * FIFTY_MEGABYTES), headers=GZIP),
            TOO_LARGE,
            id="50 MB compressed to 50 kB",
        ),
        pytest.param(responding(b"not gzip", headers=GZIP), "Error", id="not gzip"),
        pytest.param(responding(b"<html>secret</html>"), "not JSON", id="not JSON"),
        pytest.param(responding(b""), "not JSON", id="empty"),
        pytest.param(responding(b'{"keys": "\xff"}'), "not JSON", id="not UTF-8"),
        pytest.param(responding(b"[" * 200_000), "not JSON", id="deeply nested"),
        pytest.param(responding(b"{}", 500), "status 500", id="server error"),
        pytest.param(responding(b"{}", 203), "status 203", id="another success"),
        pytest.param(responding(b"{}", 204), "status 204", id="no content"),
    ],
)
async def test_unusable_response_is_an_error_without_its_text(
    site: Issuer, respond: Respond, reason: str
) -> None:
    site.respond = respond
    with pytest.raises(FetchError, match=reason) as caught:
        await download(site)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(site: Issuer, status: int) -> None:
    site.respond = responding(b"", status, {"Location": "/elsewhere"})
    with pytest.raises(FetchError, match=f"status {status}"):
        await download(site)
    assert site.fetches == 1


@pytest.mark.parametrize("respond", [hang, hang_in_the_body])
async def test_hanging_server_is_a_timeout(site: Issuer, respond: Respond) -> None:
    site.respond = respond
    with pytest.raises(FetchError, match="timeout"):
        await download(site, timeout=0.1)


async def test_refused_connection_is_an_error(site: Issuer) -> None:
    await site.go_down()
    with pytest.raises(FetchError, match="the connection failed: Connection refused"):
        await download(site)


@pytest.mark.parametrize(
    "sent",
    [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"],
    ids=["closes at once", "not HTTP", "truncated"],
)
async def test_broken_http_is_an_error(sent: bytes) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    site = Issuer(port=server.sockets[0].getsockname()[1])
    async with server:
        with pytest.raises(FetchError):
            await download(site)

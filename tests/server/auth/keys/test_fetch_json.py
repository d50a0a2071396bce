"""Downloading a small JSON document from an address that may do anything at all."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from time import monotonic

import pytest
from aiohttp import ClientSession, web

from server.auth.keys.fetch_json import MAX_BYTES, FetchError, fetch_json
from tests.issuer import Issuer, Respond, hang, hang_in_the_body, issuing

GZIP = {"Content-Encoding": "gzip"}
FIFTY_MEGABYTES = 50 * 1024 * 1024


@pytest.fixture
async def site() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


def says(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Respond:
    async def respond(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return respond


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(FIFTY_MEGABYTES // 65536):
        await response.write(b" " * 65536)
    return response


async def download(site: Issuer, timeout: float = 5) -> object:  # noqa: ASYNC109  the option's name
    async with ClientSession() as session:
        return await fetch_json(session, site.url, timeout)


async def test_a_json_document_arrives(site: Issuer) -> None:
    site.respond = says(b'{"keys": []}')
    assert await download(site) == {"keys": []}


async def test_a_document_may_be_as_large_as_the_cap(site: Issuer) -> None:
    site.respond = says(json.dumps("x" * (MAX_BYTES - 2)).encode())
    assert await download(site) == "x" * (MAX_BYTES - 2)


@pytest.mark.parametrize(
    ("respond", "reason"),
    [
        pytest.param(says(b" " * MAX_BYTES + b"1"), "more than", id="one byte over the cap"),
        pytest.param(says(b" " * FIFTY_MEGABYTES), "more than", id="50 MB, announced"),
        pytest.param(endless, "more than", id="50 MB, in chunks"),
        pytest.param(
            says(gzip.compress(b" " * FIFTY_MEGABYTES), headers=GZIP),
            "more than",
            id="50 MB, packed into 50 kB",
        ),
        pytest.param(says(b"no gzip", headers=GZIP), "Error", id="packed badly"),
        pytest.param(says(b"<html>secret</html>"), "DecodeError", id="not JSON"),
        pytest.param(says(b""), "DecodeError", id="nothing"),
        pytest.param(says(b'{"keys": "\xff"}'), "DecodeError", id="not UTF-8"),
        pytest.param(says(b"[" * 200_000), "RecursionError", id="nested without end"),
        pytest.param(says(b"{}", 500), "status 500", id="a fault"),
        pytest.param(says(b"{}", 203), "status 203", id="another success"),
        pytest.param(says(b"{}", 204), "status 204", id="no content"),
    ],
)
async def test_anything_else_is_told_in_a_word(site: Issuer, respond: Respond, reason: str) -> None:
    site.respond = respond
    with pytest.raises(FetchError, match=reason) as caught:
        await download(site)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(site: Issuer, status: int) -> None:
    site.respond = says(b"", status, {"Location": "/elsewhere"})
    with pytest.raises(FetchError, match=f"status {status}"):
        await download(site)
    assert site.fetches == 1


@pytest.mark.parametrize("respond", [hang, hang_in_the_body])
async def test_an_address_that_hangs_is_left_in_time(site: Issuer, respond: Respond) -> None:
    site.respond = respond
    started = monotonic()
    with pytest.raises(FetchError, match="Timeout"):
        await download(site, timeout=0.1)
    assert monotonic() - started < 1


async def test_nobody_there_is_told_in_a_word(site: Issuer) -> None:
    await site.go_down()
    with pytest.raises(FetchError, match="ClientConnectorError"):
        await download(site)


@pytest.mark.parametrize(
    "talk",
    [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"],
    ids=["closes at once", "no HTTP", "ends too early"],
)
async def test_a_server_of_another_kind_is_told_in_a_word(talk: bytes) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(talk)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    site = Issuer(port=server.sockets[0].getsockname()[1])
    async with server:
        with pytest.raises(FetchError):
            await download(site)

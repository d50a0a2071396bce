"""Requests to other services: proxies, certificates, causes of failures, bounded responses."""

import asyncio
import gzip
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter

import pytest
from aiohttp import ClientConnectionError, ClientError, ClientSession, ClientTimeout, web

from rig.issuer import Issuer, Respond, hang, hang_in_the_body, issuing, responding
from rig.redis_server import free_port
from server.config.validators import read_bundle
from server.http_client import (
    MAX_BYTES,
    FetchError,
    describe_failure,
    fetch_json,
    open_session,
    retry_delay,
)
from tests.egress import Authority, ConnectProxy, proxying, serving_tls


async def echo(request: web.Request) -> web.Response:
    """Answer the headers of the request."""
    return web.json_response(dict(request.headers))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def upstream(authority: Authority) -> AsyncIterator[int]:
    """Serve `api.test` and `localhost` over TLS; the port."""
    app = web.Application()
    app.router.add_get("/", echo)
    async with serving_tls(app, authority.server("api.test", "localhost")) as port:
        yield port


@pytest.fixture
async def proxy(upstream: int) -> AsyncIterator[ConnectProxy]:
    async with proxying(api=upstream) as proxy:
        yield proxy


async def ask(session: ClientSession, url: str, seconds: float = 5) -> str:
    """Return the answer, or why there is none."""
    try:
        async with session, session.get(url, timeout=ClientTimeout(total=seconds)) as response:
            return await response.text()
    except (ClientError, TimeoutError, OSError, ValueError) as error:
        return describe_failure(error)


@pytest.mark.parametrize("address", ["http://127.0.0.1:{}", "127.0.0.1:{}", "http://127.0.0.1:{}/"])
async def test_https_goes_through_the_proxy(
    authority: Authority, proxy: ConnectProxy, address: str
) -> None:
    session = open_session(
        proxy=address.format(proxy.port), certificates=read_bundle(str(authority.bundle))
    )
    assert '"Host": "api.test"' in await ask(session, "https://api.test/")
    assert proxy.targets == ["api.test:443"]
    assert "Proxy-Authorization" not in proxy.heads[0]


async def test_user_and_password_go_to_the_proxy_alone(
    authority: Authority, proxy: ConnectProxy
) -> None:
    certificates = read_bundle(str(authority.bundle))
    address = f"http://clinic:p%40ss%C3%A9@127.0.0.1:{proxy.port}"
    answer = await ask(open_session(proxy=address, certificates=certificates), "https://api.test/")
    assert f"Basic {b64encode('clinic:p@ssé'.encode()).decode()}" in proxy.heads[0]
    assert "Authorization" not in answer
    await ask(open_session(proxy=f"u@127.0.0.1:{proxy.port}"), "https://api.test/")
    assert f"Basic {b64encode(b'u:').decode()}" in proxy.heads[1]


@pytest.mark.parametrize(
    ("no_proxy", "is_direct"),
    [
        ("api.test", True),
        ("other.test, .TEST", True),
        ("*", True),
        ("api.test:443", False),
        ("pi.test", False),
        ("10.0.0.0/8", False),
        ("", False),
    ],
)
async def test_no_proxy_has_the_meaning_of_the_standard_library(
    proxy: ConnectProxy, no_proxy: str, is_direct: object
) -> None:
    address = f"127.0.0.1:{proxy.port}"
    cause = await ask(open_session(proxy=address, no_proxy=no_proxy), "https://api.test/")
    assert (cause == "the name cannot be resolved") is is_direct
    assert (proxy.heads == []) is is_direct


async def test_loopback_is_never_proxied(
    authority: Authority, proxy: ConnectProxy, upstream: int
) -> None:
    for url in (f"https://localhost:{upstream}/", f"https://127.0.0.1:{upstream}/"):
        certificates = read_bundle(str(authority.bundle))
        session = open_session(proxy=f"127.0.0.1:{proxy.port}", certificates=certificates)
        await ask(session, url)
    assert proxy.heads == []


async def test_netrc_and_the_environment_are_never_read(
    authority: Authority,
    proxy: ConnectProxy,
    upstream: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login thief password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    certificates = read_bundle(str(authority.bundle))
    direct = await ask(open_session(certificates=certificates), f"https://localhost:{upstream}/")
    session = open_session(proxy=f"127.0.0.1:{proxy.port}", certificates=certificates)
    proxied = await ask(session, "https://api.test/")
    assert "Authorization" not in direct + proxied + proxy.heads[0]
    assert "Host" in direct
    assert "Host" in proxied


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.close()


async def answer_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    writer.close()


async def test_the_cause_of_a_failure_is_told_without_addresses(
    authority: Authority, upstream: int
) -> None:
    bundle, local, closed = read_bundle(str(authority.bundle)), f"localhost:{upstream}", free_port()
    via = {"proxy": f"http://user:secret@127.0.0.1:{closed}", "certificates": bundle}
    rejected = "the TLS certificate is rejected ("
    async with (
        await asyncio.start_server(refuse, "127.0.0.1", 0) as server,
        await asyncio.start_server(answer_plainly, "127.0.0.1", 0) as other,
    ):
        plain = other.sockets[0].getsockname()[1]
        leaves = server.sockets[0].getsockname()[1]
        causes = [
            (
                await ask(open_session(), f"http://127.0.0.1:{closed}"),
                "the connection failed: Connection re",
            ),
            (await ask(open_session(), "http://nowhere.test"), "the name cannot be resolved"),
            (await ask(open_session(), f"https://{local}"), rejected),
            (
                await ask(open_session(certificates=bundle), f"https://127.0.0.1:{upstream}"),
                rejected,
            ),
            (
                await ask(open_session(), f"https://127.0.0.1:{leaves}"),
                "the connection failed: closed before TLS",
            ),
            (await ask(open_session(), f"http://127.0.0.1:{leaves}"), "the connection was closed"),
            (await ask(open_session(), f"https://127.0.0.1:{plain}"), "the TLS handshake failed"),
            (await ask(open_session(), f"http://127.0.0.1:{plain}"), "the answer is not HTTP"),
            (await ask(open_session(), f"https://{local}", 0.0001), "timeout"),
            (await ask(open_session(**via), "https://api.test"), "the proxy cannot be connected"),
            (
                await ask(open_session(proxy="http://nowhere.test:1"), "https://api.test"),
                "the name of the proxy cannot be resolved",
            ),
        ]
    for cause, expected in causes:
        assert cause.startswith(expected)
        assert "secret" not in cause
        assert str(closed) not in cause
        assert "127.0.0.1" not in cause
    assert describe_failure(ValueError("secret")) == "ValueError"


async def test_a_refusal_of_the_proxy_is_told(proxy: ConnectProxy) -> None:
    proxy.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    session = open_session(proxy=f"http://user:secret@127.0.0.1:{proxy.port}")
    assert await ask(session, "https://api.test/") == "the proxy answers 407"


# --- bounded responses -----------------------------------------------------------------------


INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send interim responses without end."""
    await reader.readuntil(b"\r\n\r\n")
    while not writer.is_closing():
        writer.write(INTERIM * 10_000)
        try:
            await writer.drain()
        except ConnectionError:
            break
    writer.close()


async def test_interim_responses_without_end_end_the_request_at_once() -> None:
    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for session, url in (
            (open_session(), f"http://127.0.0.1:{port}/"),
            (open_session(proxy=f"127.0.0.1:{port}"), "https://api.test/"),
        ):
            began = perf_counter()
            async with session:
                with pytest.raises(ClientConnectionError, match="64 KiB"):
                    await session.get(url)
            assert perf_counter() - began < 1  # it took as long as the timeout


async def test_responses_after_interim_ones_and_large_ones_are_read() -> None:
    body = b"x" * 1_000_000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            head = (
                INTERIM * 1000 + f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            )
            writer.write(head + body)
            await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as server,
        open_session() as session,
    ):
        port = server.sockets[0].getsockname()[1]
        for _ in range(3):  # over one connection
            async with session.get(f"http://127.0.0.1:{port}/") as response:
                assert await response.read() == body


async def test_cookies_are_not_kept(upstream: int) -> None:
    async def set_cookie(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        return web.Response(headers={"Set-Cookie": "a=b"})

    seen: list[str | None] = []
    app = web.Application()
    app.router.add_get("/", set_cookie)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with open_session() as session:
        for _ in range(2):
            (await session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/")).close()
    await runner.cleanup()
    assert seen == [None, None]


# --- fetch of a small document from an address that is not trusted -----------------------------

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


@pytest.mark.parametrize(
    "body", [b'{"keys": []}', b'\xef\xbb\xbf{"keys": []}', b'{"keys": []}'.ljust(MAX_BYTES)]
)
async def test_document_is_returned(site: Issuer, body: bytes) -> None:
    site.respond = responding(body)
    assert await download(site) == {"keys": []}


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


async def test_redirect_is_not_followed(site: Issuer) -> None:
    site.respond = responding(b"", 302, {"Location": "/elsewhere"})
    with pytest.raises(FetchError, match="status 302"):
        await download(site)
    assert site.fetches == 1


@pytest.mark.parametrize("respond", [hang, hang_in_the_body])
async def test_hanging_server_is_a_timeout(site: Issuer, respond: Respond) -> None:
    site.respond = respond
    with pytest.raises(FetchError, match="timeout"):
        await download(site, timeout=0.1)


async def test_truncated_response_is_an_error() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        with pytest.raises(FetchError):
            await download(Issuer(port=server.sockets[0].getsockname()[1]))


# --- delays between retries ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "longest", "most"),
    [(1, 10, 0.5), (2, 10, 1), (5, 10, 8), (6, 10, 10), (10_000, 30, 30), (1, 0.1, 0.1)],
)
def test_delay_doubles_up_to_the_longest_and_differs_between_processes(
    failures: int, longest: float, most: float
) -> None:
    delays = [retry_delay(failures, longest=longest) for _ in range(200)]
    assert all(0.75 * most <= delay <= most for delay in delays)
    assert max(delays) - min(delays) > 0.1 * most

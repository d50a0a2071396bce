"""Requests to other services: proxies, certificates, bounded answers, the delay before a retry."""

import os
import ssl
import urllib.request
from codecs import BOM_UTF8
from collections.abc import Callable
from errno import ECONNREFUSED
from functools import partial
from random import uniform
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import msgspec
from aiohttp import (
    ClientConnectionError,
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientError,
    ClientHandlerType,
    ClientHttpProxyError,
    ClientMiddlewareType,
    ClientProxyConnectionError,
    ClientRequest,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
    encode_basic_auth,
    hdrs,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.typedefs import LooseHeaders
from yarl import URL

from server.config import Settings
from server.config.validators import is_loopback, with_scheme

_FIRST_SECONDS: Final = 0.5
_MAX_DOUBLINGS: Final = 16
"""Beyond it the longest delay of every caller is reached; it keeps the power finite."""


def retry_delay(failures: int, *, longest: float) -> float:
    """Return the seconds to wait after this many failures in a row, from 1: at most `longest`.

    The delay doubles with each failure. Up to a quarter is taken off at random, so that processes
    that saw the same outage do not retry in step.
    """
    delay = _FIRST_SECONDS * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
    return min(delay, longest) * uniform(0.75, 1)  # noqa: S311  not for cryptography


def make_session(settings: Settings, *middlewares: ClientMiddlewareType) -> ClientSession:
    """Return the session that requests are sent with, as the settings say."""
    return open_session(
        *middlewares,
        proxy=settings.https_proxy,
        no_proxy=settings.no_proxy,
        certificates=settings.ssl_cert_file,
    )


def open_session(
    *middlewares: ClientMiddlewareType, proxy: str = "", no_proxy: str = "", certificates: str = ""
) -> ClientSession:
    """Return a session without cookies; it never reads the environment or `.netrc`.

    https addresses are reached through `proxy` (`http://host:port`), except loopback and the names
    in `no_proxy`, which has the format of the environment variable. Servers are verified with the
    PEM `certificates`, or with the system's when it is empty. Call it while an event loop runs.
    """
    return ClientSession(
        connector=_Connector(ssl=_tls_context(certificates) if certificates else True),
        cookie_jar=DummyCookieJar(),
        middlewares=[*middlewares, *([_through_proxy(proxy, no_proxy)] if proxy else [])],
    )


def _tls_context(certificates: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=certificates)
    context.set_alpn_protocols(["http/1.1"])
    return context


class ProxyNameError(ClientError):
    """The name of the proxy cannot be resolved."""


def _through_proxy(proxy: str, no_proxy: str) -> ClientMiddlewareType:
    url = URL(with_scheme(proxy))
    headers = {}
    if url.raw_user is not None:
        user, password = unquote(url.raw_user), unquote(url.raw_password or "")
        headers[hdrs.PROXY_AUTHORIZATION] = encode_basic_auth(user, password, encoding="utf-8")
    url = url.with_user(None)

    async def send(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if not request.is_ssl() or _is_direct(request.url, no_proxy):
            return await handler(request)
        request.update_proxy(url, None, headers)
        try:
            return await handler(request)
        except ClientConnectorDNSError:  # only the proxy's name is resolved here
            raise ProxyNameError from None

    return send


def _is_direct(url: URL, no_proxy: str) -> bool:
    return is_loopback(url.raw_host or "") or bool(
        urllib.request.proxy_bypass_environment(  # type: ignore[attr-defined]
            url.host_port_subcomponent, {"no": no_proxy}
        )
    )


_HEAD_BYTES: Final = 64 * 1024
_PIECE_BYTES: Final = 16 * 1024


class _BoundedResponses(ResponseHandler):
    """Ends a connection when a response does not begin within `_HEAD_BYTES`.

    aiohttp reads interim responses (1xx) without end. Parsing in pieces stops after this many bytes
    of them, which takes milliseconds.
    """

    _head_bytes = 0

    def set_response_params(self, **parameters: Any) -> None:
        self._head_bytes = 0
        super().set_response_params(**parameters)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE_BYTES) or (0,):
            piece = data[start : start + _PIECE_BYTES]
            if self._payload is None or self._payload.is_eof():
                self._head_bytes += len(piece)
            if self._head_bytes > _HEAD_BYTES:
                self.abort()
                self.set_exception(ClientConnectionError("no response in the first 64 KiB"))
                return
            super().data_received(piece)


class _Connector(TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_BoundedResponses, loop=self._loop)  # type: ignore[assignment]  # a subclass


def describe_failure(error: Exception) -> str:
    """Return why there is no answer: name, TLS, timeout, proxy or connection. No address is in it.

    It expects what a request raises: `ClientError`, OSError or ValueError.
    """
    for kind, describe in _CAUSES:
        if isinstance(error, kind):
            return describe(error)
    return type(error).__name__


_CAUSES: Final[tuple[tuple[type[Exception], Callable[[Any], str]], ...]] = (
    (TimeoutError, lambda _: "timeout"),
    (ProxyNameError, lambda _: "the name of the proxy cannot be resolved"),
    (ClientHttpProxyError, lambda error: f"the proxy answers {error.status}"),
    (ClientProxyConnectionError, lambda _: "the proxy cannot be connected to"),
    (ClientConnectorDNSError, lambda _: "the name cannot be resolved"),
    (
        ClientConnectorCertificateError,
        lambda error: f"the TLS certificate is rejected ({_verdict(error)}); see SSL_CERT_FILE",
    ),
    (ClientSSLError, lambda _: "the TLS handshake failed"),
    (ServerDisconnectedError, lambda _: "the connection was closed without an answer"),
    (ClientResponseError, lambda _: "the answer is not HTTP"),
    (OSError, lambda error: f"the connection failed: {_system_error(error)}"),
)
"""What an exception means to an operator; the first match counts."""


def _system_error(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "closed before TLS was agreed on"


def _verdict(error: ClientConnectorCertificateError) -> str:
    """Return OpenSSL's words, without the name of the host that it may end with."""
    words = str(getattr(error.certificate_error, "verify_message", "unknown"))
    return words.partition(" for '")[0]


MAX_BYTES: Final = 256 * 1024


class FetchError(Exception):
    """There is no answer. The message has the reason, and neither upstream text nor the address."""


class NothingListensError(FetchError):
    """The connection was refused."""


class Answer(NamedTuple):
    """The status and the whole body of a response."""

    status: int
    body: bytes


async def fetch(
    session: ClientSession,
    url: str | URL,
    seconds: float,
    headers: LooseHeaders | None = None,
    max_bytes: int = MAX_BYTES,
) -> Answer:
    """Return the answer to one request, within `seconds`; redirects are not followed.

    Raises `FetchError` without an answer, and when its body is longer than `max_bytes`.
    """
    timeout = ClientTimeout(total=seconds)
    try:
        async with session.get(
            url, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            return Answer(response.status, await _read_body(response, max_bytes))
    except (ClientError, TimeoutError, OSError, ValueError) as error:
        refused = isinstance(error, ClientConnectorError) and error.errno == ECONNREFUSED
        kind = NothingListensError if refused else FetchError
        raise kind(describe_failure(error)) from None


async def _read_body(response: ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > max_bytes:
            raise FetchError(f"more than {max_bytes} bytes")
    return bytes(body)


async def fetch_json(session: ClientSession, url: str, seconds: float) -> object:
    """Return the JSON document at `url`, of at most `MAX_BYTES`, like `fetch`.

    Raises `FetchError` for any status but 200.
    """
    status, body = await fetch(session, url, seconds)
    if status != 200:
        raise FetchError(f"status {status}")
    try:
        return msgspec.json.decode(body.removeprefix(BOM_UTF8))
    except (ValueError, RecursionError):
        raise FetchError("the body is not JSON") from None

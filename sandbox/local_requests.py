"""Rejects requests of other sites to loopback: cross-site requests and DNS rebinding.

A page that a developer visits can send requests to this machine. With DNS rebinding its own host
name resolves to this machine, and it can read the responses too. `Host` and `Origin` show both.
"""

from collections.abc import Collection, Sequence
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.context import CONTEXT
from middlewares.errors import ApiError, ErrorCode, error_response

_NAMES: Final = ("127.0.0.1", "localhost", "[::1]", "10.0.2.2")
"""Names of this machine; Android's emulator reaches it at 10.0.2.2."""

_HTTP_PORT: Final = 80


def local_requests_only(*ports: int, origins: Collection[str] | None) -> Middleware:
    """Answer local requests to these ports, which the application listens on; others get 403.

    `Host` must be a name of this machine with its port. `Origin`, when present, must be the origin
    of `Host` or one of `origins`; None allows every origin.
    """
    hosts = frozenset[str]().union(*map(local_hosts, ports))

    @web.middleware
    async def local_requests_middleware(
        request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        host = ",".join(request.headers.getall(hdrs.HOST, ())).lower()
        if host not in hosts:
            return _reject(request, "Host must be a name of this machine, with the port")
        sent = request.headers.getall(hdrs.ORIGIN, ())
        if origins is not None and not _are_allowed(sent, host, origins):
            return _reject(request, "Origin must be this service or one of CORS_ALLOWED_ORIGINS")
        return await handler(request)

    return local_requests_middleware


def local_hosts(port: int) -> set[str]:
    """Return the allowed values of `Host` (RFC 9110 section 7.2): port 80 may be omitted."""
    hosts = {f"{name}:{port}" for name in _NAMES}
    return hosts.union(_NAMES) if port == _HTTP_PORT else hosts


def local_origins(port: int) -> tuple[str, ...]:
    """Return the origins of pages that this machine serves on a port."""
    return tuple(f"http://{host}" for host in sorted(local_hosts(port)))


def _are_allowed(sent: Sequence[str], host: str, origins: Collection[str]) -> bool:
    return all(each == f"http://{host}" or each in origins for each in sent)


def _reject(request: web.Request, details: str) -> web.Response:
    if context := request.get(CONTEXT):  # the service's own, not a stand-in
        context.error_code = ErrorCode.FORBIDDEN
    return error_response(ApiError(ErrorCode.FORBIDDEN, details))

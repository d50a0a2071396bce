"""Cross-origin requests (the CORS protocol of the Fetch standard), from listed origins only."""

from collections.abc import Collection
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.headers import JSON

_REQUEST_HEADERS: Final = ("Authorization", "Content-Type", "X-Request-ID", "traceparent")
_EXPOSED_HEADERS: Final = ("X-Request-ID", "Retry-After", "Server-Timing", "WWW-Authenticate")


def is_preflight(request: web.Request) -> bool:
    """Return whether the request is a CORS preflight, not the request that it precedes."""
    return (
        request.method == hdrs.METH_OPTIONS
        and hdrs.ORIGIN in request.headers
        and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    )


def cors(
    *,
    origins: Collection[str],
    request_headers: Collection[str] = (),
    exposed_headers: Collection[str] = (),
) -> Middleware:
    """Let scripts of these origins read the responses; other origins get no CORS headers.

    `request_headers` are allowed and `exposed_headers` exposed, in addition to the usual ones.
    """
    allowed = frozenset(origins)
    exposed = ", ".join((*_EXPOSED_HEADERS, *exposed_headers))
    preflight = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: "POST",
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: ", ".join((*_REQUEST_HEADERS, *request_headers)),
        hdrs.ACCESS_CONTROL_MAX_AGE: "600",
        hdrs.CONTENT_TYPE: JSON,
    }

    @web.middleware
    async def cors_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin not in allowed:
            response = await handler(request)
        elif is_preflight(request):
            response = web.Response(status=204, headers=preflight)
        else:
            response = await handler(request)
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = exposed
        _set_origin(response, origin if origin in allowed else None, varies=bool(allowed))
        return response

    return cors_middleware


def _set_origin(response: web.StreamResponse, origin: str | None, *, varies: bool) -> None:
    if origin is not None:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    if varies:
        response.headers[hdrs.VARY] = hdrs.ORIGIN

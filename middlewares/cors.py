"""Cross-origin requests (the Fetch standard's CORS protocol), from exactly the origins listed."""

from collections.abc import Collection
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.errors import JSON

_PREFLIGHT: Final = {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "POST",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Authorization, Content-Type, X-Request-ID",
    hdrs.ACCESS_CONTROL_MAX_AGE: "600",
    hdrs.CONTENT_TYPE: JSON,
}
_EXPOSED: Final = "X-Request-ID, Retry-After, Server-Timing, WWW-Authenticate"


def is_preflight(request: web.Request) -> bool:
    """Tell whether a browser asks for leave here, and not for the thing itself."""
    return (
        request.method == hdrs.METH_OPTIONS
        and hdrs.ORIGIN in request.headers
        and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    )


def cors(*, origins: Collection[str]) -> Middleware:
    """Let scripts of these origins read the answers; to all others nothing changes."""
    allowed = frozenset(origins)

    @web.middleware
    async def cors_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin not in allowed:
            response = await handler(request)
        elif is_preflight(request):
            response = web.Response(status=204, headers=_PREFLIGHT)
        else:
            response = await handler(request)
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED
        _answer_to(origin if origin in allowed else None, response, varies=bool(allowed))
        return response

    return cors_middleware


def _answer_to(origin: str | None, response: web.StreamResponse, *, varies: bool) -> None:
    if origin is not None:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    if varies:
        response.headers[hdrs.VARY] = hdrs.ORIGIN

"""Measures each request, and puts on each answer the headers that all of them carry."""

from collections.abc import Callable
from time import perf_counter
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from multidict import istr

from middlewares.context import ERROR_CODE, REQUEST_ID, STARTED

X_REQUEST_ID: Final = istr("X-Request-ID")
SERVER_TIMING: Final = istr("Server-Timing")

Observer = Callable[[int, str | None, float], None]
"""Told of each answer: its status, its error's code or None, its seconds."""


def timing(*, observe: Observer | None = None) -> Middleware:
    """Set `Server-Timing` (milliseconds since the headers were parsed) and the standard headers."""

    @web.middleware
    async def timing_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        seconds = perf_counter() - request[STARTED]
        stamp(response, request[REQUEST_ID], seconds)
        if observe is not None:
            observe(response.status, request.get(ERROR_CODE), seconds)
        return response

    return timing_middleware


def stamp(response: web.StreamResponse, request_id: str, seconds: float) -> None:
    """Give an answer the headers that every answer of the service carries."""
    headers = response.headers
    headers[hdrs.CACHE_CONTROL] = "no-store"
    headers[hdrs.X_CONTENT_TYPE_OPTIONS] = "nosniff"
    headers[X_REQUEST_ID] = request_id
    headers[SERVER_TIMING] = f"total;dur={seconds * 1000:.3f}"


async def hide_server(_: web.Request, response: web.StreamResponse) -> None:
    """Drop the header in which aiohttp names itself: a signal for `on_response_prepare`."""
    response.headers.popall(hdrs.SERVER, None)

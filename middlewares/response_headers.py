"""The headers that every response has, and the measurement of its duration."""

from collections.abc import Callable
from time import perf_counter
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from multidict import istr

from middlewares.json_response import JsonResponse
from middlewares.request_context import CONTEXT

X_REQUEST_ID: Final = istr("X-Request-ID")
SERVER_TIMING: Final = istr("Server-Timing")

Observer = Callable[[int, str | None, float], None]
"""Receives the status, the error code or None, and the duration in seconds of each response."""


def response_headers(*, observe: Observer | None = None) -> Middleware:
    """Set the standard headers, with `Server-Timing` in milliseconds; report the duration."""

    @web.middleware
    async def response_headers_middleware(
        request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        response = await handler(request)
        context = request[CONTEXT]
        seconds = perf_counter() - context.started_at
        set_standard_headers(response, context.request_id, seconds)
        if observe is not None:
            observe(response.status, context.error_code, seconds)
        return response

    return response_headers_middleware


def set_standard_headers(response: web.StreamResponse, request_id: str, seconds: float) -> None:
    """Set the headers of every response; `Cache-Control` stays as the handler set it."""
    duration = f"total;dur={seconds * 1000:.3f}"
    if isinstance(response, JsonResponse) and response.is_text:
        response.add_fields(
            f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
            f"X-Request-ID: {request_id}\r\nServer-Timing: {duration}\r\n"
        )
        return
    headers = response.headers
    headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    headers[hdrs.X_CONTENT_TYPE_OPTIONS] = "nosniff"
    headers[X_REQUEST_ID] = request_id
    headers[SERVER_TIMING] = duration


async def remove_server_header(_: web.Request, response: web.StreamResponse) -> None:
    """Remove the header that names aiohttp; a handler for `on_response_prepare`."""
    response.headers.popall(hdrs.SERVER, None)

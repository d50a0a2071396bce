"""JSON responses, the headers that every response has, and the measurement of its duration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from time import perf_counter, time
from typing import Any, Final

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.typedefs import Handler, Middleware
from multidict import istr

from middlewares.context import CONTEXT, STARTED_AT, http_date

JSON: Final = "application/json; charset=utf-8"

_STATUS_LINES: Final = {each.value: f"HTTP/1.1 {each.value} {each.phrase}" for each in HTTPStatus}


class JsonResponse(web.Response):
    """A response with an encoded JSON body, sent in one piece if nothing has used its headers.

    aiohttp creates a dictionary of headers and serializes it, which takes longer than everything
    else that the service does for a known token. Here the fields are text until something uses
    what aiohttp's constructor creates. With either, the client receives the same bytes.
    """

    is_text = True
    """Whether the fields are still text; `add_fields` needs it."""
    __http_exception__ = False
    """aiohttp looks it up on every response."""

    def __init__(
        self, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self.body = body
        self._status = status
        self._fields = f"Content-Type: {JSON}\r\n"
        if headers:
            self._fields += "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    def __getattr__(self, name: str) -> Any:
        """Call aiohttp's constructor, because something uses what it creates."""
        if not self.is_text or name.startswith("__"):
            raise AttributeError(name, name=name, obj=self)
        self.is_text = False
        fields = [field.partition(": ")[::2] for field in self._fields.splitlines()]
        super().__init__(body=self.body, status=self._status, headers=fields)
        return getattr(self, name)

    def add_fields(self, fields: str) -> None:
        """Add header fields, each of which ends with CR LF."""
        self._fields += fields

    def set_status(self, status: int, reason: str | None = None) -> None:
        """Change the status."""
        self.headers  # noqa: B018  aiohttp's constructor sets a status, too
        super().set_status(status, reason)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send everything, if the client keeps the connection (HTTP/1.1); else the head."""
        if not (self.is_text and self._suits(request)):
            return await super().prepare(request)
        body: Any = self._body  # bytes: aiohttp would have made other headers for a payload
        head = (
            f"{_STATUS_LINES[self._status]}\r\n{self._fields}"
            f"Content-Length: {len(body)}\r\nDate: {http_date(int(time()))}\r\n\r\n"
        )
        await request.writer.write_eof(head.encode() + body)
        self._eof_sent = self._keep_alive = True
        return request.writer

    def _suits(self, request: web.BaseRequest) -> bool:
        return (
            STARTED_AT in request  # the service's own server: no signal handlers change headers
            and request.keep_alive
            and self._keep_alive is None
            and request.version == HttpVersion11
            and request.method != hdrs.METH_HEAD
        )


X_REQUEST_ID: Final = istr("X-Request-ID")
SERVER_TIMING: Final = istr("Server-Timing")


@dataclass(frozen=True, slots=True)
class ResponseFacts:
    """What metrics say about a response.

    `route` is the name of its route. `code` and `reason` are those of an error, else None.
    """

    route: str | None
    status: int
    code: str | None
    reason: str | None
    seconds: float


Observer = Callable[[ResponseFacts], None]
"""Receives the facts of each response."""


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
            route, code = request.match_info.route.name, context.error_code
            observe(ResponseFacts(route, response.status, code, context.reason, seconds))
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

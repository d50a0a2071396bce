"""A client's connection: what is no HTTP is answered all the same, and an end is announced."""

import asyncio
import logging
from collections.abc import Coroutine
from secrets import token_hex
from typing import Any, Final

from aiohttp import StreamReader, hdrs, web
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from middlewares.api_errors import ApiError, ErrorCode, internal_error
from middlewares.error_handler import error_response
from middlewares.response_headers import set_standard_headers

log = logging.getLogger(__name__)

_CONNECTION_OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,  # the audit line takes its place
    "auto_decompress": False,  # server/api/request_body.py decompresses, after authentication
    "keepalive_timeout": 75.0,
    "lingering_time": 1.0,  # for a client still sending a body that nobody wants
    "max_field_size": 32768,  # so that a token that is too large is told so
    "max_headers": 64,
}
FIRST_REQUEST_SECONDS: Final = 30.0
"""How long a client may take to send the head of its first request; aiohttp times later ones."""


class _AnonymousResponse(web.Response):
    """An answer to no request of the application: its signal cannot hide the server's name."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall(hdrs.SERVER, None)


class Connection(RequestHandler):
    """A client's connection: aiohttp's, but for what it says when things go wrong, and for bodies,
    which stay as they were sent.
    """

    __slots__ = ("_draining", "_first_request_timer", "_receiving")

    def __init__(self, server: web.Server, leaving: asyncio.Event) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **_CONNECTION_OPTIONS)
        self._draining = leaving
        self._receiving: StreamReader | None = None
        self._first_request_timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a first request, but not for ever, as aiohttp would."""
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._first_request_timer = loop.call_later(
            FIRST_REQUEST_SECONDS, self._on_first_request_timeout
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget a client who left."""
        super().connection_lost(exc)
        self._first_request_timer.cancel()

    def _on_first_request_timeout(self) -> None:
        if not self._request_count:
            self.force_close()

    def data_received(self, data: bytes) -> None:
        """Tell whoever waits for a body when its framing breaks: aiohttp's parser does not."""
        super().data_received(data)
        if not self._messages:
            return
        message, body = self._messages[-1]
        if not isinstance(message, _ErrInfo):
            self._receiving = body
        elif self._receiving is not None and not self._receiving.is_eof():
            self._receiving.set_exception(web.RequestPayloadError("malformed framing"))

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a fault of ours; a body that cannot be read is none, and has been answered."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002  aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  it repeats what was sent
    ) -> web.StreamResponse:
        """Answer what the parser rejected, or what failed outside the middlewares."""
        request_id = token_hex(16)
        if status < 500:
            log.info("not well-formed HTTP (%s)", type(exc).__name__)
            error = ApiError(ErrorCode.INVALID_REQUEST, "The request is not well-formed HTTP")
        else:
            log.error("request failed", exc_info=exc, extra={"request_id": request_id})
            error = internal_error(request_id)
        plain = error_response(error)
        answer = _AnonymousResponse(status=plain.status, body=plain.body, headers=plain.headers)
        set_standard_headers(answer, request_id, 0)
        answer.headers[hdrs.CONNECTION] = "close"
        answer.force_close()
        return answer

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Tell the client, with its answer, when this connection is about to end."""
        if self._draining.is_set():
            resp.force_close()
        return super().finish_response(request, resp, start_time)


class ConnectionServer(web.Server):
    """Makes a connection for each client, out of aiohttp's own server; `leaving` is its end."""

    def __init__(self, made: web.Server, leaving: asyncio.Event) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=True,  # nobody works for a client who left
        )
        self._draining = leaving

    def __call__(self) -> RequestHandler:
        """Make the connection of a client who has just come."""
        return Connection(self, self._draining)


def receives_compressed_bodies(request: web.Request) -> bool:
    """Return whether bodies arrive as sent; inside a host application aiohttp decompresses them."""
    return isinstance(request.protocol, Connection)

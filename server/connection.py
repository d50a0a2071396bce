"""A client's connection: what is no HTTP is answered all the same, and an end is announced."""

import asyncio
import logging
from collections.abc import Coroutine
from secrets import token_hex
from typing import Any, Final

from aiohttp import StreamReader, hdrs, web
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.errors import envelope
from middlewares.timing import stamp

log = logging.getLogger(__name__)

_CONNECTION_OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,  # the audit line takes its place
    "auto_decompress": False,  # a stranger's body is not looked into: server/body.py unpacks
    "keepalive_timeout": 75.0,
    "lingering_time": 1.0,  # for a client still sending a body that nobody wants
    "max_field_size": 32768,  # so that a token that is too large is told so
    "max_headers": 64,
}
FIRST_REQUEST_SECONDS: Final = 30.0
"""How long a client may take to send the head of its first request; aiohttp times later ones."""


class _Nameless(web.Response):
    """An answer to no request of the application: its signal cannot hide the server's name."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall(hdrs.SERVER, None)


class Connection(RequestHandler):
    """A client's connection: aiohttp's, but for what it says when things go wrong, and for bodies,
    which stay as they were sent.
    """

    __slots__ = ("_leaving", "_patience", "_receiving")

    def __init__(self, server: web.Server, leaving: asyncio.Event) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **_CONNECTION_OPTIONS)
        self._leaving = leaving
        self._receiving: StreamReader | None = None
        self._patience: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a first request, but not for ever, as aiohttp would."""
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(FIRST_REQUEST_SECONDS, self._give_up)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget a client who left."""
        super().connection_lost(exc)
        self._patience.cancel()

    def _give_up(self) -> None:
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
        """Answer what the parser refused, or what failed outside the chain, with the envelope."""
        request_id = token_hex(16)
        if status < 500:
            log.info("not well-formed HTTP (%s)", type(exc).__name__)
            error = ApiError(ErrorCode.INVALID_REQUEST, "The request is not well-formed HTTP")
        else:
            log.error("request failed", exc_info=exc, extra={"request_id": request_id})
            error = ApiError(ErrorCode.INTERNAL_ERROR, f"Quote request id {request_id} to support")
        plain = envelope(error)
        answer = _Nameless(status=plain.status, body=plain.body, headers=plain.headers)
        stamp(answer, request_id, 0)
        answer.headers[hdrs.CONNECTION] = "close"
        answer.force_close()
        return answer

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Tell the client, with its answer, when this connection is about to end."""
        if self._leaving.is_set():
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
        self._leaving = leaving

    def __call__(self) -> RequestHandler:
        """Make the connection of a client who has just come."""
        return Connection(self, self._leaving)

"""A client's connection. The only module that uses aiohttp's private interface."""

import asyncio
import re
from collections.abc import Callable
from email.utils import formatdate
from time import perf_counter
from typing import Any, Final, TypeGuard, cast

from aiohttp import EMPTY_PAYLOAD, HttpVersion10, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from server.serving import connection_limits as limits
from server.serving.inbound import NOT_HTTP, Inbound
from server.serving.transport import BoundedReads, PacedBody, Turns

ErrorResponse = Callable[[str | None, BaseException | None], web.Response]
"""Returns the response to what never reaches the application. The text says what is wrong with the
request, for the client; it is None when the error, which is given, is the service's own."""

_NOT_HTTP: Final = "The request is not well-formed HTTP"

_TOO_MANY_FIELDS: Final = "Too many headers received"  # the parser's words
_WHITE_SPACE_OR_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")


class LimitError(Exception):
    """A request exceeds a limit of the connection; the text names it, for the client."""


class Connection(RequestHandler):
    """aiohttp's connection with limits, one request at a time, and error bodies of ours."""

    __slots__ = (
        "_answered",
        "_channel",
        "_closes",
        "_connections",
        "_draining",
        "_error_response",
        "_has_large_head",
        "_inbound",
        "_is_broken",
        "_timer",
        "_turns",
        "parsed_at",
    )

    def __init__(
        self,
        server: web.Server,
        channel: BoundedReads,
        *,
        connections: limits.Connections,
        turns: Turns,
        draining: asyncio.Event,
        error_response: ErrorResponse,
        keepalive_seconds: float,
    ) -> None:
        loop, options = asyncio.get_running_loop(), limits.AIOHTTP_OPTIONS
        super().__init__(server, loop=loop, keepalive_timeout=keepalive_seconds, **options)
        self._msg_queue_resume_size = -1  # `finish_response` resumes reading
        self._channel = channel
        self._connections = connections
        self._turns = turns
        self._draining = draining
        self._error_response = error_response
        self._inbound = Inbound()
        self._answered = 0
        self._has_large_head = False  # the last request
        self._closes = False  # the response to the last request ends the connection
        self.parsed_at = 0.0  # the last head, in seconds of `time.perf_counter`
        self._is_broken = False  # what arrives is not parsed any more
        self._timer: asyncio.TimerHandle | None = None  # for the head that is arriving

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Limit the time for a first request."""
        super().connection_made(transport)
        self._timer = self._loop.call_later(limits.HEAD_SECONDS, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release what refers to this connection: memory in a reference cycle is freed late.

        Cancelled while it discards a body, aiohttp's task would refer to itself; the end of the
        body ends it.
        """
        is_discarding = self._is_answered and self._inbound.is_receiving
        if is_discarding and not self._is_broken:  # a broken body has an error, and no end
            self._task_handler = None
            self._inbound.end_body()
        super().connection_lost(exc)
        self._cancel_timer()
        self._inbound = Inbound()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _process_keepalive(self) -> None:
        """Close the connection if it is idle; a head that is arriving has its own timer."""
        if self._inbound.has_partial_head or self._channel.has_unread_bytes:
            seconds = min(limits.HEAD_SECONDS, self.keepalive_timeout)
            self._keepalive_handle = self._loop.call_later(seconds, self._process_keepalive)
        else:
            super()._process_keepalive()

    @property
    def _is_answered(self) -> bool:
        return self._answered == self._request_count

    @property
    def _is_handling(self) -> bool:
        """Whether a complete request lacks its response; the last may lack a part of its body."""
        complete = self._request_count - self._inbound.is_receiving
        return self._answered < complete

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, except what follows a request that is being handled."""
        if self._is_broken:
            return
        if not data:  # aiohttp resumes reading: its parser may have kept bytes
            self._parse(data)
        self._inbound.unparsed += data
        self._parse_pieces()
        if self._timer is None and self._is_answered and self._inbound.has_partial_head:
            self._timer = self._loop.call_later(limits.HEAD_SECONDS, self.force_close)

    def _parse_pieces(self) -> None:
        while self._inbound.unparsed and not self._reading_paused:
            if self._is_handling:
                self._pause_reading_for_buffer()
                return
            if not (piece := self._inbound.next_piece()):
                return
            self._parse(piece)

    def _parse(self, piece: bytes) -> None:
        requests = self._request_count
        super().data_received(piece)
        if self._request_count > requests:
            self._on_message(piece)
        elif not self._inbound.advance(piece):
            self._give_up()

    def _on_message(self, piece: bytes) -> None:
        self._cancel_timer()
        self._connections.begin_request(self._channel)
        self.parsed_at = perf_counter() - self._channel.delay
        message, body = self._messages[-1]
        if isinstance(message, _ErrInfo):
            error = self._reason(message.exc)
            error.__traceback__ = None  # it refers to what was sent, and to itself
        elif self._inbound.is_http_head(piece) and _is_well_formed(message):
            head_bytes = self._inbound.head_bytes + len(piece)
            self._has_large_head = limits.is_large_head(head_bytes, len(message.headers))
            self._inbound.begin_body(body)
            self._closes = bool(message.upgrade)
            return
        else:
            error = ValueError("not HTTP/1.x")
        self._messages[-1] = _ErrInfo(400, error, ""), EMPTY_PAYLOAD
        if self._inbound.has_incomplete_body:  # the request with the body gets the response
            self._messages.pop()
            self._request_count -= 1
        self._give_up()

    def _reason(self, error: BaseException) -> BaseException:
        if self._inbound.is_too_large:
            return LimitError(f"The request head is larger than {limits.MAX_HEAD_BYTES} bytes")
        if str(error).endswith(_TOO_MANY_FIELDS):
            return LimitError(f"The request has over {limits.MAX_HEADER_FIELDS} header fields")
        return error

    def _give_up(self) -> None:
        self._is_broken = self._closes = True
        self._inbound.discard()
        if self._is_answered:
            self._linger()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002  aiohttp's
        """Resume reading if it is paused; aiohttp calls this for each piece of a body."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp never keeps it open
        """Return whether the connection stays open for a moment, for the response."""
        if self._is_answered and self._inbound.has_partial_head:
            self._parse(NOT_HTTP)
        if self._is_handling:
            self._closes = True
            self._loop.call_later(limits.HALF_CLOSED_SECONDS, self.force_close)
        return self._is_handling

    def close(self) -> None:
        """Close an idle connection; a busy one is closed with its response."""
        if self._is_answered and self._inbound.is_receiving:
            super().close()
        elif self._is_answered and not (
            self._inbound.has_partial_head or self._channel.has_unread_bytes
        ):
            self.force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the response, then parse what has arrived in the meantime."""
        if self._has_large_head and self._inbound.has_incomplete_body:
            self._closes = True
        if self._draining.is_set() or (self._closes and self._answered + 1 == self._request_count):
            resp.force_close()
        if isinstance(resp, web.Response) and _is_large(resp.body):
            resp.body = PacedBody(resp.body)
        self._message_tail = b""  # aiohttp would parse what follows a request to upgrade
        result = await super().finish_response(request, resp, start_time)
        self._answered += 1
        if self._is_answered:
            self._connections.end_request(self._channel)
        if self._closes and self._is_answered:
            self._linger()
        elif self._buffer_paused and not self._is_handling:
            await self._turns.wait()  # other connections come first
            self._buffer_paused = False
            super().resume_reading()
        return result

    def _linger(self) -> None:
        if self.transport is not None:
            self._channel.linger()
            self.connection_lost(None)

    def handle_error(
        self, _: web.BaseRequest, status: int = 500, exc: Any = None, __: Any = None
    ) -> web.StreamResponse:
        """Answer what the parser rejected, or what failed outside the middlewares."""
        details = (str(exc) if isinstance(exc, LimitError) else _NOT_HTTP) if status < 500 else None
        return _FinalResponse(self._error_response(details, exc))


class _FinalResponse(web.Response):
    """The last response of a connection, without the `Server` header that aiohttp would add."""

    def __init__(self, plain: web.Response) -> None:
        headers = {**plain.headers, hdrs.CONNECTION: "close"}
        super().__init__(status=plain.status, body=plain.body, headers=headers)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Send everything."""
        body = cast("bytes", self.body)
        self.headers.update(
            {hdrs.CONTENT_LENGTH: str(len(body)), hdrs.DATE: formatdate(usegmt=True)}
        )
        await request.writer.write_headers(f"HTTP/1.1 {self.status} {self.reason}", self.headers)
        await request.writer.write_eof(b"" if request.method == hdrs.METH_HEAD else body)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: everything has been sent."""


def _is_large(body: object) -> TypeGuard[bytes]:
    return isinstance(body, bytes) and len(body) > limits.LARGE_RESPONSE_BYTES


def _is_well_formed(message: RawRequestMessage) -> bool:
    """Return whether the fields that the parser does not check agree with RFC 9112 and RFC 9110.

    A transfer coding needs HTTP/1.1, and can only be `chunked`.
    """
    headers = message.headers
    if (host := headers.get(hdrs.HOST)) is not None and _WHITE_SPACE_OR_CONTROL.search(host):
        return False
    if hdrs.TRANSFER_ENCODING not in headers:
        return True
    codings = headers.getall(hdrs.TRANSFER_ENCODING)
    return message.version != HttpVersion10 and [each.lower() for each in codings] == ["chunked"]

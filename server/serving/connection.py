"""A client's connection: hands one request at a time to the application, and sends the response.

It replaces aiohttp's connection, and uses its parser, its requests and its responses. Of their
private interface it needs `_loop`, and `_reading_paused`, which a body asks for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from aiohttp import StreamReader, hdrs, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from server.serving import connection_limits as limits
from server.serving.inbound import Inbound, LimitError, reason
from server.serving.transport import BoundedReads, PacedBody, Turns, send_last

ErrorResponse = Callable[[str | None, BaseException | None], web.Response]
"""Returns the response to what never reaches the application. The text says what is wrong with the
request, for the client; it is None when the error, which is given, is the service's own."""

_NOT_HTTP: Final = "The request is not well-formed HTTP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the connections of a server have in common; `open` has each of them."""

    handle: Callable[[Any], Awaitable[web.StreamResponse]]
    make_request: Callable[..., web.BaseRequest]
    error_response: ErrorResponse
    started_at: web.RequestKey[float]
    draining: asyncio.Event
    connections: limits.Connections
    keepalive_seconds: float
    turns: Turns = field(default_factory=Turns)
    open: set["Connection"] = field(default_factory=set)


class Connection(BaseProtocol):
    """The connection of a client, with limits."""

    __slots__ = (
        *("_channel", "_closes", "_deadline", "_head_bytes", "_inbound", "_is_head_timed"),
        *("_shared", "_timer", "parsed_at", "peername", "sockname", "ssl_context", "task"),
    )

    def __init__(self, shared: Shared, channel: BoundedReads) -> None:
        super().__init__(asyncio.get_running_loop())
        self._shared = shared
        self._channel = channel
        self._inbound = Inbound(self)
        self._head_bytes = 0  # the size of the last head
        self._closes = False  # the response to the last request ends the connection
        self._is_head_timed = True  # by the timer; otherwise the connection may be idle
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0  # for the next request, in seconds of the event loop's clock
        self.parsed_at = 0.0  # the last head, in seconds of `time.perf_counter`
        self.task: asyncio.Task[None] | None = None  # answers the last request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Limit the time for a first request, and note what requests ask for."""
        super().connection_made(transport)
        self._shared.open.add(self)
        self._close_in(limits.HEAD_SECONDS)
        self.ssl_context = transport.get_extra_info("sslcontext")
        self.peername = transport.get_extra_info("peername")
        self.sockname = transport.get_extra_info("sockname")

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the request, and release what refers to this connection."""
        super().connection_lost(exc)
        self._shared.open.discard(self)
        self._cancel_timer()
        self._inbound.end()
        if self.task is not None:
            self.task.cancel()

    def _close_in(self, seconds: float) -> None:
        """Close the connection in this time unless a request arrives.

        A timer costs two microseconds: one that ends too early is started again when it ends.
        """
        self._deadline = deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > deadline:
            self._cancel_timer()
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _on_timer(self) -> None:
        self._timer = None
        if self.task is not None:
            return  # its end starts the timer again
        if (left := self._deadline - self._loop.time()) > 0:
            self._close_in(left)
        elif self._is_head_timed or not self._channel.has_unread_bytes:
            self._channel.transport.close()
        else:
            self._close_in(min(limits.HEAD_SECONDS, self._shared.keepalive_seconds))

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, except what follows a request that is being handled."""
        self._inbound.received += data
        self._parse()

    def _parse(self) -> None:
        inbound = self._inbound
        while inbound.received and not self._reading_paused:
            if not inbound.body.is_eof():
                self._closes = not inbound.parse_body() or self._closes
            elif self._closes:
                inbound.received = b""
            elif self.task is not None:
                self._channel.transport.pause_reading()
                return
            elif not self._parse_head():
                return

    def _parse_head(self) -> bool:
        """Begin a request whose head is complete; return False if more has to arrive."""
        try:
            request = self._inbound.parse_head(is_last=self._channel.has_ended)
        except (HttpProcessingError, ValueError) as error:
            self._closes = True
            self._run(self._refuse(reason(error)))
            return True
        if request is not None:
            self._begin(*request)
        elif self._inbound.received and not self._is_head_timed:
            self._is_head_timed = True
            self._close_in(limits.HEAD_SECONDS)
        return request is not None

    def _begin(self, message: RawRequestMessage, body: StreamReader, head_bytes: int) -> None:
        """Begin a request, whose body may not have arrived."""
        self._head_bytes = head_bytes
        self._closes = bool(message.upgrade)
        self._run(self._handle(message, body))

    def _run(self, answer: Coroutine[Any, Any, None]) -> None:
        self.parsed_at = perf_counter() - self._channel.delay
        self._shared.connections.begin_request(self._channel)
        self.task = self._loop.create_task(answer)

    def pause_reading(self) -> None:
        """Pause until a part of the body has been read; aiohttp's body calls this."""
        self._reading_paused = True
        self._channel.transport.pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002  aiohttp's
        """Resume reading if it is paused; aiohttp's body calls this for each piece."""
        if self._reading_paused:
            self._reading_paused = False
            self._channel.transport.resume_reading()
            if resume_parser:
                self._parse()

    def eof_received(self) -> bool:
        """Return whether the connection stays open for a moment, for the response."""
        self._parse()  # rejects an incomplete head
        if self.task is None or not self._inbound.body.is_eof():
            return False
        self._closes = self._closes or not self._inbound.received
        self._loop.call_later(limits.HALF_CLOSED_SECONDS, self._channel.transport.close)
        return True

    def close(self) -> None:
        """Close an idle connection; a busy one is closed with its response."""
        if self.task is not None:
            self._closes = self._closes or not self._inbound.body.is_eof()
        elif not self._inbound.received and not self._channel.has_unread_bytes:
            self._channel.transport.close()

    async def _handle(self, message: RawRequestMessage, body: StreamReader) -> None:
        """Answer a request, then go on with what has arrived in the meantime."""
        shared, writer = self._shared, StreamWriter(self, self._loop)
        request = shared.make_request(message, body, self, writer, self.task)
        request[shared.started_at] = self.parsed_at
        try:
            keeps = await self._answer(request, body)
            shared.connections.end_request(self._channel)
            if not self._closes and not body.is_eof():
                await _discard(body)
        except (asyncio.CancelledError, ConnectionError):  # the client has left
            self._channel.transport.close()
        except Exception:  # noqa: BLE001  it is logged
            server_logger.exception("Unhandled exception")
            self._channel.transport.close()
        else:
            self.task = None
            if self._closes:
                self._linger()
            elif keeps and body.is_eof():
                self._wait_for_request()
            else:
                self._channel.transport.close()

    async def _answer(self, request: web.BaseRequest, body: StreamReader) -> bool:
        """Send the response of the application; return whether the connection stays open."""
        shared = self._shared
        try:
            response = await shared.handle(request)
        except web.HTTPException as error:
            response = error
        except Exception as error:
            if request.writer.output_size:  # a part of a response: nothing can follow it
                raise
            is_head = request.method == hdrs.METH_HEAD
            await send_last(shared.error_response(None, error), request.writer, is_head=is_head)
            return False
        if not body.is_eof() and limits.is_large_head(self._head_bytes, len(request.headers)):
            self._closes = True
        if self._closes or shared.draining.is_set():
            response.force_close()
        if (
            isinstance(response, web.Response)
            and isinstance(content := response.body, bytes)
            and len(content) > limits.LARGE_RESPONSE_BYTES
        ):
            response.body = PacedBody(content)
        await response.prepare(request)
        await response.write_eof()
        return bool(response.keep_alive)

    async def _refuse(self, error: Exception) -> None:
        """Answer what is not a request, and end the connection."""
        details = str(error) if isinstance(error, LimitError) else _NOT_HTTP
        response = self._shared.error_response(details, error)
        with suppress(asyncio.CancelledError, ConnectionError):  # the client has left
            await send_last(response, StreamWriter(self, self._loop))
            self.task = None
            self._linger()

    def _linger(self) -> None:
        self._channel.linger()
        self.connection_lost(None)

    def _wait_for_request(self) -> None:
        self._is_head_timed = False
        self._close_in(self._shared.keepalive_seconds)
        if self._inbound.received or self._channel.has_ended:
            self._shared.turns.later(self._continue)  # other connections come first

    def _continue(self) -> None:
        self._channel.transport.resume_reading()
        self._parse()
        if self._channel.has_ended and self.task is None:
            self._channel.transport.close()


async def _discard(body: StreamReader) -> None:
    """Wait for the end of a body that the application has not read, for a while."""
    with suppress(TimeoutError, web.RequestPayloadError):
        async with asyncio.timeout(limits.LINGER_SECONDS):
            while not body.is_eof():
                await body.readany()

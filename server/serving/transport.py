"""Between the event loop and a connection: small reads, small buffers, an end without a reset."""

import array
import asyncio
import fcntl
import socket
import sys
import termios
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from time import perf_counter
from typing import Final, cast

from aiohttp import Payload, hdrs, web
from aiohttp.abc import AbstractStreamWriter

from server.serving import connection_limits as limits

_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)  # Linux only
_LAST_DATA_SENT: Final = 44
"""The offset of the milliseconds since data was sent, or else since the handshake (linux/tcp.h)."""
_TCP_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only


class Turns:
    """Lets a number of requests begin in each turn of the event loop; others wait in their order.

    With 1,000 busy clients a turn would take as long as 1,000 requests, and a new client needs
    several turns until its first one begins. Of those that wait, up to a half are first requests of
    their connections: so neither many clients nor many connections keep the others out.
    """

    __slots__ = ("_first", "_is_planned", "_later", "_left")

    def __init__(self) -> None:
        self._left = limits.REQUESTS_IN_A_TURN
        self._first: deque[Callable[[], None]] = deque()
        self._later: deque[Callable[[], None]] = deque()
        self._is_planned = False

    def take(self, begin: Callable[[], None], *, is_first: bool) -> bool:
        """Return whether a request may begin now; otherwise call `begin` in a later turn."""
        if not self._is_planned:
            self._plan()
        waiting = self._first if is_first else self._later
        if self._left > 0 and not waiting:
            self._left -= 1
            return True
        waiting.append(begin)
        return False

    def later(self, begin: Callable[[], None]) -> None:
        """Call `begin` when the connections that wait now have had their turn."""
        self._later.append(begin)
        if not self._is_planned:
            self._plan()

    def _plan(self) -> None:
        self._is_planned = True
        asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._is_planned = False
        self._left = limits.REQUESTS_IN_A_TURN
        if self._first or self._later:
            self._plan()
            self._begin_some(self._first, self._left // 2)
            self._begin_some(self._later, self._left)
            self._begin_some(self._first, self._left)

    def _begin_some(self, waiting: deque[Callable[[], None]], most: int) -> None:
        count = min(most, len(waiting))
        self._left -= count
        for _ in range(count):
            waiting.popleft()()


class BoundedReads(asyncio.BufferedProtocol):
    """Passes everything to a protocol that `make` creates, data in pieces of the size of `buffer`.

    asyncio would hand over up to 256 KiB at once. The buffer may be shared: each piece is copied
    before the next is read. A connection that `connections` does not admit is closed at once.
    Data waits for one of the `turns`. `on_lost` is called when the connection has ended.
    """

    __slots__ = (
        *("_buffer", "_connections", "_make", "_on_lost", "_protocol"),
        *("_is_first", "_turns", "_waiting", "_waiting_since", "delay", "has_ended", "transport"),
    )

    def __init__(
        self,
        make: Callable[["BoundedReads"], asyncio.Protocol],
        connections: limits.Connections,
        buffer: memoryview,
        turns: Turns,
        on_lost: Callable[[], None],
    ) -> None:
        self._make = make
        self._connections = connections
        self._buffer = buffer
        self._turns = turns
        self._on_lost = on_lost
        self._is_first = True
        self._waiting = b""
        self._waiting_since = 0.0
        self.delay = 0.0  # how long the data that is being parsed has waited, in seconds
        self.has_ended = False
        self._protocol = asyncio.Protocol()  # does nothing
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Limit what may wait in the process and in the kernel."""
        self.transport = cast("asyncio.Transport", transport)
        if not self._connections.add(self):
            self.abort()
            return
        if self._connections.on_wait is not None:
            self._connections.on_wait(seconds_since_handshake(self.transport))
        limit_buffers(self.transport)
        self._protocol = self._make(self)
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end of the connection."""
        self._waiting = b""
        self._protocol.connection_lost(exc)
        self._protocol = asyncio.Protocol()  # memory in a reference cycle is freed late
        self._connections.remove(self)
        self._on_lost()

    def abort(self) -> None:
        """Close the connection at once, without what the client has not read."""
        self.transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's signature
        """Return the buffer to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over the bytes that were read, now or in a later turn."""
        data = bytes(self._buffer[:nbytes])
        if self._waiting:
            self._waiting += data
            self.transport.pause_reading()
        elif self._turns.take(self._hand_over, is_first=self._is_first):
            self._is_first = False
            self._protocol.data_received(data)
        else:
            self._waiting, self._waiting_since = data, perf_counter()

    def _hand_over(self) -> None:
        """Hand over what waits, if it has not been handed over at the end of the connection."""
        data, self._waiting = self._waiting, b""
        if data:
            self._is_first = False
            self.transport.resume_reading()
            self.delay = perf_counter() - self._waiting_since
            self._protocol.data_received(data)
            self.delay = 0.0

    @property
    def has_unread_bytes(self) -> bool:
        """Whether bytes of the client wait here or in the kernel; False for a closed connection."""
        return not self.transport.is_closing() and (
            bool(self._waiting) or has_bytes_in_kernel(self.transport)
        )

    def eof_received(self) -> bool | None:
        """Return whether the connection stays open for the response."""
        self.has_ended = True
        self._hand_over()
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Report that the client reads too slowly."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Report that the client has caught up."""
        self._protocol.resume_writing()

    def linger(self) -> None:
        """End the connection without `protocol`, and discard what the client still sends.

        Closing a connection with unread bytes resets it, which can lose the response.
        """
        self._protocol = asyncio.Protocol()  # does nothing
        self.transport.resume_reading()
        self.transport.write_eof()
        seconds = 0 if self.has_ended else limits.LINGER_SECONDS
        asyncio.get_running_loop().call_later(seconds, self.transport.close)


class PacedBody(Payload):
    """The body of a large response, written in pieces when the client has read those before."""

    _value: bytes

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text."""
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write everything. Raises ConnectionError when the client has left."""
        whole = memoryview(self._value)
        for start in range(0, len(whole), limits.WRITE_BUFFER_BYTES):
            await writer.write(whole[start : start + limits.WRITE_BUFFER_BYTES])
            await writer.drain()


async def send_last(
    plain: web.Response, writer: AbstractStreamWriter, *, is_head: bool = False
) -> None:
    """Send the last response of a connection, without the fields that aiohttp would add."""
    body = cast("bytes", plain.body)
    headers = plain.headers.copy()
    headers[hdrs.CONNECTION] = "close"
    headers[hdrs.CONTENT_LENGTH] = str(len(body))
    headers[hdrs.DATE] = formatdate(usegmt=True)
    await writer.write_headers(f"HTTP/1.1 {plain.status} {plain.reason}", headers)
    await writer.write_eof(b"" if is_head else body)


def seconds_since_handshake(transport: asyncio.Transport) -> float:
    """Return the age of a connection on which nothing was sent yet; 0 where no kernel tells."""
    client = transport.get_extra_info("socket")
    if _TCP_INFO is None or client.family == socket.AF_UNIX:
        return 0
    info = client.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LAST_DATA_SENT + 4)
    return int.from_bytes(info[_LAST_DATA_SENT:], sys.byteorder) / 1000


def has_bytes_in_kernel(transport: asyncio.Transport) -> bool:
    """Return whether bytes have arrived that were not read."""
    count = array.array("i", [0])
    fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, count)
    return count[0] > 0


def limit_buffers(transport: asyncio.Transport) -> None:
    """Limit how many bytes may wait for the client or for the service, and for how long.

    The kernel's timer (RFC 5482) starts when the client stops acknowledging bytes or announces a
    full receive buffer. It ends the connection after `UNREAD_SECONDS`.
    """
    transport.set_write_buffer_limits(high=limits.WRITE_BUFFER_BYTES)
    client = transport.get_extra_info("socket")
    # Without these options the kernel lets its buffers grow to several megabytes.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.KERNEL_RECEIVE_BYTES)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.KERNEL_SEND_BYTES)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if _TCP_USER_TIMEOUT is not None and client.family != socket.AF_UNIX:
        client.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(limits.UNREAD_SECONDS * 1000))

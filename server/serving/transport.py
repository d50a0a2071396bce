"""Between the event loop and a connection: small reads, small buffers, an end without a reset."""

import array
import asyncio
import fcntl
import socket
import termios
from collections.abc import Callable
from typing import Final, cast

from aiohttp import Payload
from aiohttp.abc import AbstractStreamWriter

from server.serving import connection_limits as limits

_TCP_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only


class BoundedReads(asyncio.BufferedProtocol):
    """Passes everything to a protocol that `make` creates, data in pieces of the size of `buffer`.

    asyncio would hand over up to 256 KiB at once. The buffer may be shared: each piece is copied
    before the next is read. A connection that `connections` does not admit is closed at once.
    `on_lost` is called when the connection has ended.
    """

    __slots__ = (
        *("_buffer", "_connections", "_has_ended", "_make", "_on_lost", "_protocol", "_transport"),
    )

    def __init__(
        self,
        make: Callable[["BoundedReads"], asyncio.Protocol],
        connections: limits.Connections,
        buffer: memoryview,
        on_lost: Callable[[], None],
    ) -> None:
        self._make = make
        self._connections = connections
        self._buffer = buffer
        self._on_lost = on_lost
        self._has_ended = False
        self._protocol = asyncio.Protocol()  # does nothing
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Limit what may wait in the process and in the kernel."""
        self._transport = cast("asyncio.Transport", transport)
        if not self._connections.add(self):
            self.abort()
            return
        limit_buffers(self._transport)
        self._protocol = self._make(self)
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end of the connection."""
        self._protocol.connection_lost(exc)
        self._protocol = asyncio.Protocol()  # memory in a reference cycle is freed late
        self._connections.remove(self)
        self._on_lost()

    def abort(self) -> None:
        """Close the connection at once, without what the client has not read."""
        self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's signature
        """Return the buffer to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over the bytes that were read."""
        self._protocol.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool | None:
        """Return whether the connection stays open for the response."""
        self._has_ended = True
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
        self._transport.resume_reading()
        self._transport.write_eof()
        seconds = 0 if self._has_ended else limits.LINGER_SECONDS
        asyncio.get_running_loop().call_later(seconds, self._transport.close)


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
    if _TCP_USER_TIMEOUT is not None and client.family != socket.AF_UNIX:
        client.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(limits.UNREAD_SECONDS * 1000))


def has_unread_bytes(transport: asyncio.Transport | None) -> bool:
    """Return whether bytes of the client wait in the kernel; False for a closed connection."""
    if transport is None or transport.is_closing():
        return False
    count = array.array("i", [0])
    fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, count)
    return count[0] > 0

"""Reads a connection in small pieces, where asyncio would hand over up to 256 KiB at once."""

import asyncio
from collections.abc import Callable
from typing import cast

from server.serving.collected_writes import CollectedWrites, WriteCollector
from server.serving.limits import LINGER_SECONDS


class BoundedReads(asyncio.BufferedProtocol):
    """Passes everything on to `protocol`, data in pieces of at most the size of `buffer`.

    The buffer may be shared: each piece is copied before the next is read. `collector` is shared
    by the connections of a server. `on_lost` is called when the connection has ended.
    """

    __slots__ = ("_buffer", "_collector", "_has_ended", "_on_lost", "_protocol", "_transport")

    def __init__(
        self,
        protocol: asyncio.Protocol,
        buffer: memoryview,
        collector: WriteCollector,
        on_lost: Callable[[], None],
    ) -> None:
        self._protocol = protocol
        self._buffer = buffer
        self._collector = collector
        self._on_lost = on_lost
        self._has_ended = False
        self._transport: CollectedWrites

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass a transport on whose small writes are collected."""
        self._transport = CollectedWrites(cast("asyncio.Transport", transport), self._collector)
        self._protocol.connection_made(cast("asyncio.Transport", self._transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the end of the connection on."""
        self._collector.discard(self._transport)
        self._protocol.connection_lost(exc)
        self._on_lost()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's signature
        """Return the buffer to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass the bytes on that were read."""
        self._collector.expect(self._transport)
        self._protocol.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool | None:
        """Return whether the connection stays open for the response."""
        self._has_ended = True
        is_kept = self._protocol.eof_received()
        self._transport.flush()  # the event loop closes the connection unless it is kept
        return is_kept

    def pause_writing(self) -> None:
        """Pass on that the client reads too slowly."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client has caught up."""
        self._protocol.resume_writing()

    def linger(self) -> None:
        """End the connection without `protocol`, and discard what the client still sends.

        Closing a connection with unread bytes resets it, which can lose the response.
        """
        self._protocol = asyncio.Protocol()  # does nothing
        self._transport.resume_reading()
        self._transport.write_eof()
        seconds = 0 if self._has_ended else LINGER_SECONDS
        asyncio.get_running_loop().call_later(seconds, self._transport.close)

"""Sends responses to several clients one directly after the other.

A client that waits for a response sleeps, and to wake it costs the server 4 to 10 µs of kernel
time. A process that waits for several responses, such as a proxy, is woken by the first. It is
still awake for the others if they follow at once, and asleep again if they do not.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from server.serving.limits import WRITE_BUFFER_BYTES

_MOST_RESPONSES: Final = 8
"""More save little, and the first response waits for the work on all others."""


class WriteCollector:
    """The connections of a server that have bytes to send at the end of the event loop's turn."""

    __slots__ = ("_expected", "_waiting")

    def __init__(self) -> None:
        self._expected: set[CollectedWrites] = set()
        self._waiting: list[CollectedWrites] = []

    def expect(self, transport: "CollectedWrites") -> None:
        """Note that `transport` has received something, so others may wait for its response."""
        self._expected.add(transport)

    def discard(self, transport: "CollectedWrites") -> None:
        """Note that nothing has to wait for `transport` any more."""
        self._expected.discard(transport)

    def add(self, transport: "CollectedWrites") -> None:
        """Flush `transport` at the end of this turn, or at once if waiting saves nothing."""
        self._expected.discard(transport)
        self._waiting.append(transport)
        if not self._expected or len(self._waiting) >= _MOST_RESPONSES:
            self._flush()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            transport.flush()


class CollectedWrites:
    """A transport whose small writes wait for the end of the event loop's turn.

    Every other use of the transport, such as `close`, flushes first, so it finds what it would
    find without this class. What the client does not read at once does not wait here but in the
    transport, which limits it.
    """

    __slots__ = ("_collector", "_pending", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, collector: WriteCollector) -> None:
        self._transport = transport
        self._collector = collector
        self._pending = b""
        self.is_closing = transport.is_closing  # asked before each write

    def __getattr__(self, name: str) -> Any:
        """Flush, and return an attribute of the transport."""
        self.flush()
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data` at the end of the turn; at once if it is large or a backlog waits."""
        size = len(self._pending) + len(data)
        if size > WRITE_BUFFER_BYTES or self._transport.get_write_buffer_size():
            self.flush()
            self._transport.write(data)
            self._collector.discard(self)
            return
        is_first = not self._pending
        self._pending += data
        if is_first:
            self._collector.add(self)

    def writelines(self, chunks: Iterable[bytes]) -> None:
        """Send all chunks like one."""
        self.write(b"".join(chunks))

    def flush(self) -> None:
        """Send what waits; drop it when the connection has ended."""
        pending, self._pending = self._pending, b""
        if pending and not self.is_closing():
            self._transport.write(pending)

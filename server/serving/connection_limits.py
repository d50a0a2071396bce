"""The limits of connections, and their number. `docs/security.md` explains the limits."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

log = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 32768
"""The request line and all headers together, with their line breaks."""
LARGE_HEAD_BYTES: Final = 24576
"""A larger head whose body has not arrived with it ends the connection with its response."""
MAX_HEADER_FIELDS: Final = 100
READ_BYTES: Final = 4096
"""The most that is read from a connection at once."""
WRITE_BUFFER_BYTES: Final = 16384
"""The response bytes that wait in the process; a response beyond them waits for the client."""
KERNEL_RECEIVE_BYTES: Final = 16384
KERNEL_SEND_BYTES: Final = 65536
"""The buffers of a connection in the kernel, which doubles them. With a smaller one for sending,
large responses are slow where packets are large."""
HEAD_SECONDS: Final = 30.0
"""The time for a head to arrive: of the first request from the connection on, of others from their
first byte on."""
UNREAD_SECONDS: Final = 10.0
"""A client that reads nothing of its response for this long is disconnected."""
LINGER_SECONDS: Final = 1.0
"""The time for a client to read the last response while it still sends."""
HALF_CLOSED_SECONDS: Final = 1.0
"""The time for the response after a client closes its side, as a client that has left does too."""

AIOHTTP_OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,  # the application does, after authentication
    "lingering_time": LINGER_SECONDS,
    "max_field_size": MAX_HEAD_BYTES,  # a token that is too large gets its own error
    "max_line_size": MAX_HEAD_BYTES,
    "max_headers": MAX_HEADER_FIELDS,
    "read_bufsize": READ_BYTES,  # of a body; reading pauses at twice as much
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the caller chooses: open connections, and the seconds that one may be idle."""

    max_connections: int = 10_000
    keepalive_seconds: float = 3630.0


_RECOVERED_SHARE: Final = 0.9


class Connections:
    """The number of connections of a server: open, accepted so far, refused beyond `maximum`.

    A WARNING is logged when the limit is reached, and an INFO when 10 % of it are free again.
    """

    def __init__(self) -> None:
        self.maximum = 0  # the server sets it when it starts
        self.open = 0
        self.accepted = 0
        self.refused = 0
        self._refused_before: int | None = None

    def acquire(self) -> bool:
        """Count a new connection; return False if it exceeds the limit and must be closed."""
        if self.open >= self.maximum:
            self._refuse()
            return False
        self.open += 1
        self.accepted += 1
        return True

    def _refuse(self) -> None:
        if self._refused_before is None:
            self._refused_before = self.refused
            log.warning("%d connections are open, the maximum: new ones are closed", self.open)
        self.refused += 1

    def release(self) -> None:
        """Count the end of a connection that was acquired."""
        self.open -= 1
        if self._refused_before is not None and self.open <= self.maximum * _RECOVERED_SHARE:
            closed, self._refused_before = self.refused - self._refused_before, None
            log.info("connections are accepted again, after %d were closed", closed)


class RefusedConnection(asyncio.Protocol):
    """A connection beyond the limit: it is closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close the connection without a response."""
        transport.close()

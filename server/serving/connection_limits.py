"""The limits of connections, and their number. `docs/security.md` explains the limits."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Final, Protocol

log = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 32768
"""The request line and all headers together, with their line breaks."""
_LARGE_HEAD_BYTES: Final = 43008
_FIELD_BYTES: Final = 256
MAX_HEADER_FIELDS: Final = 100
READ_BYTES: Final = 4096
"""The most that is read from a connection at once."""
WRITE_BUFFER_BYTES: Final = 16384
"""The response bytes that wait in the process; a response beyond them waits for the client."""
REQUESTS_IN_A_TURN: Final = 32
"""The requests that begin in one turn of the event loop: some milliseconds. Others wait."""
LARGE_RESPONSE_BYTES: Final = 65536
"""A larger response is sent in pieces, as fast as the client reads, and never copied whole."""
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


def is_large_head(head_bytes: int, fields: int) -> bool:
    """Return whether a head costs so much memory that its connection cannot wait for a body.

    The parser keeps each field twice, and the objects of a field take about 500 bytes. A token that
    fills the head is not large.
    """
    return head_bytes + fields * _FIELD_BYTES > _LARGE_HEAD_BYTES


@dataclass(frozen=True, slots=True)
class Limits:
    """What the caller chooses: open connections, and the seconds that one may be idle."""

    max_connections: int = 10_000
    keepalive_seconds: float = 3630.0


_RECOVERED_SHARE: Final = 0.9
_NEW_SECONDS: Final = 1.0


class Open(Protocol):
    """An open connection."""

    def abort(self) -> None:
        """Close it at once; that takes effect in the next turn of the event loop."""


class Connections:
    """The open connections of a server. Beyond `maximum` one without a request makes room.

    First the oldest that never completed a request goes, if it is at least a second old; then the
    one that has been idle longest; then the oldest that never completed a request. When each has a
    request in progress, the new one is closed. A head that is arriving is not in progress: it costs
    an attacker nothing. All of this takes constant time.

    A WARNING is logged when the maximum is reached, and an INFO when 10 % of it are free again.
    """

    def __init__(self) -> None:
        self.maximum = 0  # the server sets it when it starts
        self.on_wait: Callable[[float], None] | None = None
        """Receives how long each new connection waited to be accepted, in seconds (Linux)."""
        self.accepted = 0
        self.evicted = 0
        self.refused = 0
        # A `dict` would scan the places of deleted entries for its first one.
        self._new: OrderedDict[Open, float] = OrderedDict()  # no request yet; when it was opened
        self._idle: OrderedDict[Open, None] = OrderedDict()  # the one that is idle longest first
        self._busy: set[Open] = set()
        self._before: tuple[int, int] | None = None  # what was evicted and refused before

    @property
    def open(self) -> int:
        """The number of open connections, without those that are being closed to make room."""
        return len(self._new) + len(self._idle) + len(self._busy)

    def add(self, connection: Open) -> bool:
        """Count a new connection; return False if there is no room and it must be closed."""
        if self.open >= self.maximum and not self._make_room():
            self.refused += 1
            return False
        self._new[connection] = monotonic()
        self.accepted += 1
        return True

    def _make_room(self) -> bool:
        if self._before is None:
            self._before = self.evicted, self.refused
            log.warning(
                "%d connections are open, the maximum: one without a request is closed for each"
                " new one, or else the new one",
                self.open,
            )
        oldest = next(iter(self._new.values()), inf)
        if oldest + _NEW_SECONDS <= monotonic() or (self._new and not self._idle):
            connection, _ = self._new.popitem(last=False)
        elif self._idle:
            connection, _ = self._idle.popitem(last=False)
        else:
            return False
        self.evicted += 1
        connection.abort()
        return True

    def begin_request(self, connection: Open) -> None:
        """Note that the head of a request is complete."""
        if connection in self._new:
            del self._new[connection]
        elif connection in self._idle:
            del self._idle[connection]
        else:
            return
        self._busy.add(connection)

    def end_request(self, connection: Open) -> None:
        """Note that a response has been sent, and no other request is in progress."""
        if connection in self._busy:
            self._busy.remove(connection)
            self._idle[connection] = None

    def remove(self, connection: Open) -> None:
        """Count the end of a connection."""
        self._busy.discard(connection)
        self._new.pop(connection, None)
        self._idle.pop(connection, None)
        if self._before is not None and self.open <= self.maximum * _RECOVERED_SHARE:
            evicted, refused = self._before
            self._before = None
            log.info(
                "connections have room again, after %d were closed to make room and %d new ones",
                self.evicted - evicted,
                self.refused - refused,
            )

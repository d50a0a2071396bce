"""The number of open connections, and its limit."""

import asyncio
import logging
from typing import Final

log = logging.getLogger(__name__)

_RECOVERED_SHARE: Final = 0.9


class ConnectionLimit:
    """Counts the connections of the process: open, accepted so far, refused beyond `maximum`.

    A WARNING is logged when the limit is reached, and an INFO when 10 % of it are free again.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
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

"""Tells gunicorn's workers why they end: a reload replaces them, or the service ends."""

import mmap
from typing import Final

_SERVICE_ENDS: Final = 1
_SOCKETS_CLOSE: Final = 2


class EndOfService:
    """A byte that a process shares with those that it forks.

    gunicorn sends its workers the same signal in both cases, so its master sets this first.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def announce(self, *, sockets_close: bool) -> None:
        """Set that the service ends; `sockets_close` unless another process goes on listening."""
        self._shared[0] = _SOCKETS_CLOSE if sockets_close else _SERVICE_ENDS

    @property
    def is_announced(self) -> bool:
        """Whether the service ends."""
        return self._shared[0] >= _SERVICE_ENDS

    @property
    def closes_sockets(self) -> bool:
        """Whether nothing will listen on the sockets any more."""
        return self._shared[0] == _SOCKETS_CLOSE

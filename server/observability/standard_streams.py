"""The file descriptors of the standard streams, also when they were closed at start."""

import os
import sys
from typing import Final

CLOSED: Final = -1
"""A descriptor that fails every write. The usual number may since belong to a client's connection,
which must not receive audit lines."""


def standard_output() -> int:
    """Return the descriptor of standard output, or `CLOSED` if it was closed at start."""
    return CLOSED if sys.__stdout__ is None else 1


def standard_error() -> int:
    """Return the descriptor of standard error, or `CLOSED` if it was closed at start."""
    return CLOSED if sys.__stderr__ is None else 2


def reserve_standard_streams() -> None:
    """Open `/dev/null` in place of closed standard streams.

    Otherwise the event loop gets their numbers, and libuv aborts when it closes one of these.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:
        pass
    os.close(descriptor)

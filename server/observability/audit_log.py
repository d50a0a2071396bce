"""The audit log: JSON lines on standard output."""

import asyncio
import logging
import sys
from collections.abc import Callable


class AuditLog:
    """Writes lines in batches: one write for all lines of one event-loop turn."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._lines: list[bytes] = []

    def __call__(self, line: bytes) -> None:
        """Add a line, without its line break."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write the lines added so far."""
        lines, self._lines = self._lines, []
        if lines:
            self._write(b"\n".join(lines) + b"\n")


def write_to_standard_output(data: bytes) -> None:
    """Write to standard output immediately; log an error when that fails."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except (OSError, ValueError) as error:  # ValueError: it was closed
        logging.getLogger(__name__).error("audit lines were lost: %s", type(error).__name__)

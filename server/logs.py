"""Where lines go: the log to standard error, the audit lines to standard output."""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Final

from pythonjsonlogger.json import JsonFormatter

CONSOLE_FORMAT: Final = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"
JSON_FORMAT: Final = "%(levelname)s %(name)s %(message)s"


def configure_logging(level: str, style: str) -> None:
    """Set the process's logging up: for a process that is ours alone, never inside a host."""
    handler = logging.StreamHandler(sys.stderr)
    formatter: logging.Formatter = logging.Formatter(CONSOLE_FORMAT)
    if style == "json":
        names = {"levelname": "level", "name": "logger"}
        formatter = JsonFormatter(JSON_FORMAT, rename_fields=names, timestamp=True)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)


class AuditLog:
    """Writes lines in batches: all that came in one turn of the event loop leave in one write."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._lines: list[bytes] = []

    def __call__(self, line: bytes) -> None:
        """Take a line, without its line break."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write what has come."""
        lines, self._lines = self._lines, []
        if lines:
            self._write(b"\n".join(lines) + b"\n")


def to_standard_output(data: bytes) -> None:
    """Write to standard output at once; the log tells when it cannot be written to."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except (OSError, ValueError) as error:  # ValueError: it was closed
        logging.getLogger(__name__).error("audit lines were lost: %s", type(error).__name__)

"""The configuration of logging: records go to standard error, as JSON or for a console."""

import logging
import os
import sys
from pathlib import Path
from select import select
from typing import Final

from pythonjsonlogger.json import JsonFormatter

from server.observability.line_writer import LineWriter

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
    gunicorn needs a `sys.stderr`.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:
        pass
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for ever


CONSOLE_FORMAT: Final = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"
JSON_FORMAT: Final = "%(levelname)s %(name)s %(process)d %(message)s"

_QUEUE_BYTES: Final = 2**20
_CLOSE_SECONDS: Final = 0.5


class ThreadedHandler(logging.Handler):
    """Writes records to a file descriptor from a thread: logging never blocks the service.

    At most 1 MiB of records wait. While they do, later records are dropped; their number is logged
    with the next record that is not.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._writer = LineWriter(descriptor)
        self._writer.start()
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record; the base class lets in one thread at a time."""
        try:
            line = self._encode(record)
        except Exception:  # noqa: BLE001  as in the handlers of the standard library
            self.handleError(record)
            return
        if self._writer.waiting_bytes + len(line) > _QUEUE_BYTES:
            self._dropped += 1
            return
        if self._dropped:
            self._writer.append(self._encode(_dropped_records(self._dropped)))
            self._dropped = 0
        self._writer.append(line)

    def _encode(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def close(self) -> None:
        """Write the waiting records, for at most half a second."""
        self._writer.close(_CLOSE_SECONDS)
        super().close()


def _dropped_records(count: int) -> logging.LogRecord:
    message = "%d log records were dropped: standard error was blocked"
    return logging.LogRecord(__name__, logging.WARNING, "", 0, message, (count,), None)


class UnthreadedHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic in stubs only
    """Drops records while standard error is blocked: for a process that forks.

    The children would not have the thread, and the locks that it held would stay locked.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record if standard error takes it now."""
        _, writable, _ = select([], [self.stream], [], 0)
        if writable:
            super().emit(record)


class ConsoleFormatter(logging.Formatter):
    """Formats records as lines for a console, with the request id of those that have one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the base class's name
        """Return the line without the stack trace."""
        line = super().formatMessage(record)
        request_id = getattr(record, "request_id", None)
        return line if request_id is None else f"{line} [{request_id}]"


def configure_logging(level: str, style: str, *, forks: bool = False) -> None:
    """Configure the logging of this process; not for use inside a host application.

    Call it before the process opens files that it keeps: closed standard streams are opened here.
    `forks` is for a process that starts others by forking.
    """
    reserve_standard_streams()
    handler = UnthreadedHandler() if forks else ThreadedHandler(standard_error())
    formatter: logging.Formatter = ConsoleFormatter(CONSOLE_FORMAT)
    if style == "json":
        names = {"levelname": "level", "name": "logger"}
        formatter = JsonFormatter(JSON_FORMAT, rename_fields=names, timestamp=True)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)

"""The audit log: lines on standard output, and no session without its line."""

import asyncio
import logging
from threading import Lock
from time import monotonic
from typing import Final

from middlewares.api_errors import ApiError, ErrorCode
from server.observability.line_writer import MAX_WRITE, LineWriter

log = logging.getLogger(__name__)

QUEUE_BYTES: Final = 8 * 2**20
_STALL_SECONDS: Final = 2.0
_RETRY_AFTER_SECONDS: Final = 5
_POLL_SECONDS: Final = 0.005


class AuditLog:
    """Writes audit lines without blocking: they wait in a queue of at most `limit` bytes.

    Call `ensure_writable` and write the line of the granted session without suspending in between:
    the line then has its place in the queue. A line without a place is lost and
    counted; it is always the line of a refusal. While writing fails, lines are kept and retried.

    An outage begins when a write fails or makes no progress for two seconds, or when the queue is
    full; it ends when the last line that waits is written. Each is logged once.
    """

    def __init__(self, descriptor: int, *, limit: int = QUEUE_BYTES) -> None:
        self._writer = LineWriter(descriptor, on_result=self._on_result)
        self._limit = limit
        self._lock = Lock()
        self._is_failing = False
        self._outage = ""
        self.lost_lines = 0
        """The number of lines that were not and will not be written."""

    @property
    def waiting_lines(self) -> int:
        """The number of lines in the queue."""
        return self._writer.waiting_lines

    @property
    def state(self) -> str:
        """The state for `/readyz`: `up`, `blocked` or `failing`."""
        self._detect_stall()
        if self._is_failing:
            return "failing"
        return "blocked" if self._outage else "up"

    def start(self) -> None:
        """Start writing."""
        self._writer.start()

    async def stop(self, seconds: float) -> None:
        """Write the remaining lines for at most `seconds`; count and log those that are lost."""
        self._writer.finish()
        deadline = monotonic() + seconds
        while not self._writer.is_finished and monotonic() < deadline:  # noqa: ASYNC110  a thread
            await asyncio.sleep(_POLL_SECONDS)
        if lost := self._writer.abandon():
            self.lost_lines += lost
            log.error("%d audit lines were lost at shutdown: standard output is blocked", lost)

    def ensure_writable(self) -> None:
        """Return if the line of a granted session has a place now.

        Raises `ApiError` AUDIT_UNAVAILABLE after a failed write and while the queue is full.
        """
        if self._is_failing or not self._has_place(MAX_WRITE):
            details = "The audit log cannot be written; try again"
            raise ApiError(ErrorCode.AUDIT_UNAVAILABLE, details, retry_after=_RETRY_AFTER_SECONDS)

    def write(self, line: bytes) -> None:
        """Add a line, without its line break, of at most 4,095 bytes."""
        self._detect_stall()
        if self._has_place(len(line) + 1):
            self._writer.append(line + b"\n")
        else:
            self.lost_lines += 1

    def _has_place(self, size: int) -> bool:
        if self._writer.waiting_bytes + size <= self._limit:
            return True
        self._begin_outage("standard output is blocked, and the queue is full")
        return False

    def _detect_stall(self) -> None:
        if self._writer.stalled_seconds > _STALL_SECONDS:
            self._begin_outage("standard output is blocked")

    def _on_result(self, error: OSError | None) -> None:
        self._is_failing = error is not None
        if error is not None:
            self._begin_outage(f"writing to standard output failed: {error.strerror}")
        elif self._outage and self._writer.waiting_bytes <= MAX_WRITE:
            with self._lock:
                self._outage = ""
            log.info("the audit log is written again; lines lost since start: %d", self.lost_lines)

    def _begin_outage(self, reason: str) -> None:
        with self._lock:
            begins, self._outage = not self._outage, reason
        if begins:
            log.warning("the audit log is not written: %s", reason)

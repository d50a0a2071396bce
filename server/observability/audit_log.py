"""The audit log: lines on standard output, and no session without its line."""

import asyncio
import logging
from secrets import token_hex
from threading import Lock
from time import monotonic, time
from typing import Final

import msgspec

from middlewares.context import rfc3339
from middlewares.errors import ApiError, ErrorCode
from server.observability.line_writer import MAX_WRITE, LineWriter

log = logging.getLogger(__name__)

QUEUE_BYTES: Final = 8 * 2**20
MAX_LINE: Final = 4000
"""The longest line that `write` takes; `instance`, `seq` and the line break are added to it."""

_STALL_SECONDS: Final = 2.0
_RETRY_AFTER_SECONDS: Final = 5
_POLL_SECONDS: Final = 0.005
_REPORT_SECONDS: Final = 1.0
_INSTANCE_BYTES: Final = 8


class DroppedRecord(msgspec.Struct, frozen=True):
    """The line that tells how many lines of refusals were dropped since the previous such line."""

    event: str
    timestamp: str
    count: int


class AuditLog:
    """Writes audit lines without blocking: they wait in a queue of at most `limit` bytes.

    Each line is a JSON object, to which `instance` (random, one for each process) and `seq` (1 and
    up, without gaps, in the order of writing) are added. While writing fails, lines are kept and
    retried.

    Call `ensure_writable` and write the line of the granted session without suspending in between:
    the line then has its place in the queue. Lines of refusals are dropped while half of the queue
    is in use, so that they never take the place of a session's line; a line `vapi_audit_dropped`
    with their number follows, at most once a second.

    An outage begins when a write fails or makes no progress for two seconds, when the queue is
    full, or when the writing thread has ended; it ends when the last line that waits is written.
    Each is logged once. All methods are called from the event loop.
    """

    def __init__(self, descriptor: int, *, limit: int = QUEUE_BYTES) -> None:
        self._writer = LineWriter(
            descriptor, on_result=self._on_result, on_failure=self._on_failure
        )
        self._limit = limit
        self._lock = Lock()
        self._is_failing = False
        self._outage = ""
        self._encode = msgspec.json.Encoder().encode
        self._end = f',"instance":"{token_hex(_INSTANCE_BYTES)}","seq":'.encode()
        self._seq = 0
        self._unreported = 0
        self._report: asyncio.TimerHandle | None = None
        self.lost_lines = 0
        """The number of lines that were not and will not be written, without dropped refusals."""
        self.dropped_refusals = 0
        """The number of lines of refusals that were dropped."""

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
        if self._report is not None:
            self._report.cancel()
            self._write_report()
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
        """Add a line: a JSON object with at least one field, at most `MAX_LINE` bytes.

        Without a place in the queue the line is lost and counted.
        """
        self._detect_stall()
        if self._has_place(len(line)):
            self._append(line)
        else:
            self.lost_lines += 1

    def write_event(self, record: msgspec.Struct) -> None:
        """Add a line that is not of a request: the fields of the record, in their order."""
        self.write(self._encode(record))

    def write_refusal(self, line: bytes) -> None:
        """Add the line of a refusal, or drop and count it while half of the queue is in use."""
        self._detect_stall()
        if self._fits(len(line), self._limit // 2):
            self._append(line)
        else:
            self._drop()

    def _append(self, line: bytes) -> None:
        self._seq += 1
        seq = str(self._seq).encode()
        self._writer.append(b"".join((line[:-1], self._end, seq, b"}\n")))

    def _drop(self) -> None:
        self.dropped_refusals += 1
        self._unreported += 1
        if self._report is None:
            log.warning("audit lines of refusals are dropped: half of the queue is in use")
            self._schedule_report()

    def _schedule_report(self) -> None:
        self._report = asyncio.get_running_loop().call_later(_REPORT_SECONDS, self._report_dropped)

    def _report_dropped(self) -> None:
        """Report the refusals dropped in the last second; without any, the drops have ended."""
        if self._unreported:
            self._write_report()
            self._schedule_report()
            return
        self._report = None
        dropped = self.dropped_refusals
        log.info("refusals are in the audit log again; lines dropped since start: %d", dropped)

    def _write_report(self) -> None:
        if self._unreported and self._fits(MAX_WRITE, self._limit):
            record = DroppedRecord("vapi_audit_dropped", rfc3339(time()), self._unreported)
            self._append(self._encode(record))
            self._unreported = 0

    def _fits(self, size: int, limit: int) -> bool:
        """Return whether so many bytes more can wait; every line asks, so without a property."""
        return self._writer.appended_bytes - self._writer.written_bytes + size <= limit

    def _has_place(self, size: int) -> bool:
        if self._fits(size, self._limit):
            return True
        self._begin_outage("standard output is blocked, and the queue is full")
        return False

    def _detect_stall(self) -> None:
        progress_at = self._writer.progress_at
        if progress_at is not None and monotonic() - progress_at > _STALL_SECONDS:
            self._begin_outage("standard output is blocked")

    def _on_failure(self) -> None:
        self._is_failing = True
        self._begin_outage("the writing thread has ended; restart the process")

    def _on_result(self, error: OSError | None) -> None:
        self._is_failing = error is not None
        if error is not None:
            self._begin_outage(f"writing to standard output failed: {error.strerror}")
        elif self._outage and self._writer.waiting_bytes <= self._writer.max_write:
            with self._lock:
                self._outage = ""
            log.info("the audit log is written again; lines lost since start: %d", self.lost_lines)

    def _begin_outage(self, reason: str) -> None:
        with self._lock:
            begins, self._outage = not self._outage, reason
        if begins:
            log.warning("the audit log is not written: %s", reason)

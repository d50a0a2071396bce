"""The audit log: lines on standard output, and no session without its line."""

import asyncio
import logging
import os
import stat
from collections import deque
from collections.abc import Callable
from secrets import token_hex
from threading import Event, Lock, Thread
from time import monotonic, sleep, time
from typing import Final

import msgspec

from middlewares.context import rfc3339
from middlewares.errors import ApiError, ErrorCode

log = logging.getLogger(__name__)

MAX_WRITE: Final = 4096
"""PIPE_BUF of Linux: a pipe takes a write of this size as a whole or not at all (pipe(7))."""

MAX_FILE_WRITE: Final = 2**16
"""The largest write to a regular file, whose writers do not mix their lines."""

_COLLECT_SECONDS: Final = 0.01
_NOT_READY_SECONDS: Final = 0.01
_FAILED_SECONDS: Final = 0.1

OnResult = Callable[[OSError | None], None]
"""Receives the result of each write, in the writing thread: None, or the error."""


class LineWriter:
    """Writes lines in the order in which they were appended.

    A write has whole lines and at most `max_write` bytes (4,096, or 65,536 to a regular file),
    unless a single line is longer: processes that share a pipe do not mix their lines. After a
    short write the rest of the batch is written. A descriptor that is not ready (EAGAIN) or that
    fails is tried again, so no line is dropped before `abandon`. The queue is not bounded: check
    `waiting_bytes` before `append`.
    """

    def __init__(self, descriptor: int, *, on_result: OnResult = lambda _: None) -> None:
        self._descriptor = descriptor
        self._on_result = on_result
        self.max_write = _max_write(descriptor)
        self._lines: deque[bytes] = deque()
        # Changed by the appending thread only.
        self._appended_lines = self._appended_bytes = 0
        # Changed by the writing thread only.
        self._written_lines = self._written_bytes = 0
        self._progress_at: float | None = None
        self._wake = Event()
        self._finishing = self._abandoned = False
        self.has_failed = False
        """Whether the thread has ended because of an error in this program."""
        self._thread = Thread(target=self._run, name="line-writer", daemon=True)

    def start(self) -> None:
        """Start the thread. Call it once, in the process that appends: a fork has no threads."""
        self._thread.start()

    def append(self, line: bytes) -> None:
        """Add a line that ends with a line break. Only one thread may append at a time."""
        self._appended_lines += 1
        self._appended_bytes += len(line)
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    @property
    def waiting_lines(self) -> int:
        """The number of lines that are not completely written."""
        return self._appended_lines - self._written_lines

    @property
    def waiting_bytes(self) -> int:
        """The size of the lines that are not completely written."""
        return self._appended_bytes - self._written_bytes

    @property
    def stalled_seconds(self) -> float:
        """For how long the current write has made no progress; 0 when nothing is being written."""
        progress_at = self._progress_at
        return 0.0 if progress_at is None else monotonic() - progress_at

    def finish(self) -> None:
        """End the thread as soon as all lines are written."""
        self._finishing = True
        self._wake.set()

    @property
    def is_finished(self) -> bool:
        """Whether the thread has ended, or was never started."""
        return not self._thread.is_alive()

    def close(self, seconds: float) -> int:
        """Write the remaining lines for at most `seconds`; return the number of lines lost."""
        self.finish()
        if not self.is_finished:
            self._thread.join(seconds)
        return self.abandon()

    def abandon(self) -> int:
        """Write no further lines; return the number of lines lost.

        A thread that is blocked in a write cannot be interrupted. It ends after that write, or with
        the process.
        """
        self._abandoned = True
        return self.waiting_lines

    def _run(self) -> None:
        try:
            self._write_until_finished()
        except BaseException:
            self.has_failed = True
            raise

    def _write_until_finished(self) -> None:
        while not (self._abandoned or (self._finishing and not self._lines)):
            self._wake.wait()
            self._wake.clear()
            while self._lines and not self._abandoned:
                self._write_batch()
            # Waking up once for many lines costs the event loop less than once for each.
            sleep(_COLLECT_SECONDS)

    def _write_batch(self) -> None:
        batch = [self._lines.popleft()]
        size = len(batch[0])
        while self._lines and size + len(self._lines[0]) <= self.max_write:
            batch.append(self._lines.popleft())
            size += len(batch[-1])
        self._progress_at = monotonic()
        rest = memoryview(b"".join(batch))
        while rest and not self._abandoned:
            rest = rest[self._write(rest) :]
        self._progress_at = None
        if not rest:
            self._written_lines += len(batch)
            self._written_bytes += size

    def _write(self, data: memoryview) -> int:
        """Return the number of bytes written; after a failure, wait before the next attempt."""
        try:
            written = os.write(self._descriptor, data)
        except BlockingIOError:
            sleep(_NOT_READY_SECONDS)
            return 0
        except OSError as error:
            self._on_result(error)
            sleep(_FAILED_SECONDS)
            return 0
        self._progress_at = monotonic()
        self._on_result(None)
        return written


def _max_write(descriptor: int) -> int:
    """Return the size of a write that other processes' writes do not split."""
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:  # a closed descriptor; each write fails
        return MAX_WRITE
    return MAX_FILE_WRITE if is_file else MAX_WRITE


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
        self._writer = LineWriter(descriptor, on_result=self._on_result)
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
        self._detect_outage()
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
        self._detect_end_of_thread()
        if self._is_failing or not self._has_place(MAX_WRITE):
            details = "The audit log cannot be written; try again"
            raise ApiError(ErrorCode.AUDIT_UNAVAILABLE, details, retry_after=_RETRY_AFTER_SECONDS)

    def write(self, line: bytes) -> None:
        """Add a line: a JSON object with at least one field, at most `MAX_LINE` bytes.

        Without a place in the queue the line is lost and counted.
        """
        self._detect_outage()
        if self._has_place(len(line)):
            self._append(line)
        else:
            self.lost_lines += 1

    def write_refusal(self, line: bytes) -> None:
        """Add the line of a refusal, or drop and count it while half of the queue is in use."""
        self._detect_outage()
        if self._writer.waiting_bytes + len(line) <= self._limit // 2:
            self._append(line)
        else:
            self._drop()

    def _append(self, line: bytes) -> None:
        self._seq += 1
        self._writer.append(b"%b%b%d}\n" % (line[:-1], self._end, self._seq))

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
        if self._unreported and self._writer.waiting_bytes + MAX_WRITE <= self._limit:
            record = DroppedRecord("vapi_audit_dropped", rfc3339(time()), self._unreported)
            self._append(self._encode(record))
            self._unreported = 0

    def _has_place(self, size: int) -> bool:
        if self._writer.waiting_bytes + size <= self._limit:
            return True
        self._begin_outage("standard output is blocked, and the queue is full")
        return False

    def _detect_outage(self) -> None:
        self._detect_end_of_thread()
        if self._writer.stalled_seconds > _STALL_SECONDS:
            self._begin_outage("standard output is blocked")

    def _detect_end_of_thread(self) -> None:
        if self._writer.has_failed:
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

"""Writes lines to a descriptor in a thread, so that a slow reader never blocks the event loop."""

import os
import stat
from collections import deque
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic, sleep
from typing import Final

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

    def __init__(
        self,
        descriptor: int,
        *,
        on_result: OnResult = lambda _: None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_failure` is called when the thread ends because of an error in this program."""
        self._descriptor = descriptor
        self._on_result = on_result
        self._on_failure = on_failure
        self.max_write = _max_write(descriptor)
        self._lines: deque[bytes] = deque()
        # Changed by the appending thread only.
        self._appended_lines = self.appended_bytes = 0
        # Changed by the writing thread only.
        self._written_lines = self.written_bytes = 0
        self.progress_at: float | None = None
        """When the current write began or made progress (`time.monotonic`); None without one."""
        self._wake = Event()
        self._finishing = self._abandoned = False
        self._thread = Thread(target=self._run, name="line-writer", daemon=True)

    def start(self) -> None:
        """Start the thread. Call it once, in the process that appends: a fork has no threads."""
        self._thread.start()

    def append(self, line: bytes) -> None:
        """Add a line that ends with a line break. Only one thread may append at a time."""
        self._appended_lines += 1
        self.appended_bytes += len(line)
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
        return self.appended_bytes - self.written_bytes

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
            self._on_failure()
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
        self.progress_at = monotonic()
        rest = memoryview(b"".join(batch))
        while rest and not self._abandoned:
            rest = rest[self._write(rest) :]
        self.progress_at = None
        if not rest:
            self._written_lines += len(batch)
            self.written_bytes += size

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
        self.progress_at = monotonic()
        self._on_result(None)
        return written


def _max_write(descriptor: int) -> int:
    """Return the size of a write that other processes' writes do not split."""
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:  # a closed descriptor; each write fails
        return MAX_WRITE
    return MAX_FILE_WRITE if is_file else MAX_WRITE

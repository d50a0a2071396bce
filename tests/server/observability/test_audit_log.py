"""The audit log: no session without its line, and nothing waits for standard output."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep

import pytest

from middlewares.api_errors import ApiError, ErrorCode
from server.observability import audit_log as module
from server.observability.audit_log import QUEUE_BYTES, AuditLog
from server.observability.line_writer import MAX_WRITE
from server.observability.standard_streams import CLOSED
from tests.server.observability.pipes import Pipe, pipe

LIMIT = 5 * MAX_WRITE
LINE = b"x" * 999
FAILED = "the audit log is not written: writing to standard output failed"


@pytest.fixture
def output() -> Iterator[Pipe]:
    with pipe() as made:
        yield made


@contextmanager
def logging_to(descriptor: int, *, limit: int = LIMIT) -> Iterator[AuditLog]:
    """Run an audit log; its lines have been written at the end."""
    audit_log = AuditLog(descriptor, limit=limit)
    audit_log.start()
    yield audit_log
    asyncio.run(audit_log.stop(10))


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        sleep(0.001)  # a thread changes it


def is_available(audit_log: AuditLog) -> bool:
    try:
        audit_log.ensure_writable()
    except ApiError:
        return False
    return True


def outages(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def redirect(descriptor: int, path: str) -> None:
    target = os.open(path, os.O_WRONLY)
    os.dup2(target, descriptor)
    os.close(target)


def test_lines_are_written(output: Pipe) -> None:
    with logging_to(output.writer) as audit_log:
        audit_log.ensure_writable()
        audit_log.write(b"one")
        audit_log.write(b"two")
        assert output.read_until(b"two\n") == [b"one\n", b"two\n"]
        assert audit_log.state == "up"
    assert (audit_log.waiting_lines, audit_log.lost_lines) == (0, 0)


def test_queue_has_8_mib() -> None:
    assert QUEUE_BYTES == 8 * 1024 * 1024


def test_full_queue_makes_sessions_unavailable_until_it_is_written(
    output: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    output.fill()
    with logging_to(output.writer) as audit_log:
        granted = 0
        while is_available(audit_log):
            audit_log.write(LINE)
            granted += 1
        assert granted == (LIMIT - MAX_WRITE) // 1000 + 1
        assert audit_log.state == "blocked"
        refused = 0
        while not audit_log.lost_lines:  # refusals have lines as long as there is a place
            audit_log.write(LINE)
            refused += 1
        audit_log.write(LINE)
        kept = granted + refused - 1
        assert kept == LIMIT // 1000
        assert (audit_log.waiting_lines, audit_log.lost_lines) == (kept, 2)
        lines = output.read_until(LINE + b"\n")
        while len(lines) < kept:
            lines += output.read_until(LINE + b"\n")
        assert lines == [LINE + b"\n"] * kept
        wait_until(lambda: audit_log.state == "up")
        assert is_available(audit_log)
    assert outages(caplog) == [
        (
            "WARNING",
            "the audit log is not written: standard output is blocked, and the queue is full",
        ),
        ("INFO", "the audit log is written again; lines lost since start: 2"),
    ]


def test_sessions_are_available_as_soon_as_one_write_succeeds(output: Pipe) -> None:
    output.fill()
    with logging_to(output.writer) as audit_log:
        while is_available(audit_log):
            audit_log.write(LINE)
        waiting = audit_log.waiting_lines
        output.read()
        wait_until(lambda: is_available(audit_log))
        assert audit_log.waiting_lines < waiting


def test_failing_write_makes_sessions_unavailable_until_one_succeeds(
    output: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with output.duplicate() as descriptor:
        redirect(descriptor, "/dev/full")
        with logging_to(descriptor) as audit_log:
            assert is_available(audit_log)
            audit_log.write(b"one")
            wait_until(lambda: audit_log.state == "failing")
            with pytest.raises(ApiError) as refused:
                audit_log.ensure_writable()
            assert refused.value.code is ErrorCode.AUDIT_UNAVAILABLE
            assert refused.value.headers["Retry-After"] == "5"
            audit_log.write(b"two")
            os.dup2(output.writer, descriptor)
            wait_until(lambda: is_available(audit_log))
            assert output.read_until(b"two\n") == [b"one\n", b"two\n"]
            wait_until(lambda: audit_log.state == "up")
    assert audit_log.lost_lines == 0
    assert outages(caplog) == [
        ("WARNING", f"{FAILED}: No space left on device"),
        ("INFO", "the audit log is written again; lines lost since start: 0"),
    ]


def test_stalled_write_is_an_outage_although_the_queue_has_places(
    output: Pipe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STALL_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    output.fill()
    with logging_to(output.writer) as audit_log:
        audit_log.write(b"one")
        wait_until(lambda: audit_log.state == "blocked")
        assert is_available(audit_log)
        audit_log.write(b"two")
        assert output.read_until(b"two\n") == [b"one\n", b"two\n"]
        wait_until(lambda: audit_log.state == "up")
    assert [level for level, _ in outages(caplog)] == ["WARNING", "INFO"]


def test_lines_still_waiting_at_the_end_are_counted_and_logged(
    output: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    output.fill()
    audit_log = AuditLog(output.writer, limit=LIMIT)
    audit_log.start()
    audit_log.write(b"one")
    audit_log.write(b"two")
    asyncio.run(audit_log.stop(0.05))
    assert audit_log.lost_lines == 2
    assert outages(caplog) == [
        ("ERROR", "2 audit lines were lost at shutdown: standard output is blocked")
    ]
    output.read()  # ends the thread


def test_standard_output_that_was_closed_at_start_makes_sessions_unavailable() -> None:
    audit_log = AuditLog(CLOSED)
    audit_log.start()
    audit_log.write(b"one")
    wait_until(lambda: not is_available(audit_log))
    asyncio.run(audit_log.stop(0))
    assert audit_log.lost_lines == 1

"""The audit log: no session without its line, and nothing waits for standard output."""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from middlewares.errors import ApiError, ErrorCode
from server.observability import audit_log as module
from server.observability.audit_log import MAX_LINE, AuditLog
from server.observability.line_writer import MAX_FILE_WRITE, MAX_WRITE
from server.observability.log_records import CLOSED
from tests.server.observability.pipes import Pipe, pipe

LIMIT = 5 * MAX_WRITE
LINE = b'{"a":"%b"}' % (b"x" * 900)
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


def read(written: Iterable[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written]


def named(*names: str) -> list[bytes]:
    return [b'{"name":"%b"}' % name.encode() for name in names]


ONE, TWO = named("one", "two")


def test_lines_are_written_with_instance_and_number(output: Pipe) -> None:
    with logging_to(output.writer) as audit_log:
        audit_log.ensure_writable()
        audit_log.write(ONE)
        audit_log.write_refusal(TWO)
        one, two = read(output.read_lines(2))
        assert list(one) == ["name", "instance", "seq"]
        assert (one["name"], one["seq"], two["name"], two["seq"]) == ("one", 1, "two", 2)
        assert one["instance"] == two["instance"]
        assert audit_log.state == "up"
    assert (audit_log.waiting_lines, audit_log.lost_lines) == (0, 0)


def test_longest_line_fits_into_one_write_to_a_pipe(output: Pipe) -> None:
    with logging_to(output.writer) as audit_log:
        audit_log._seq = 10**12
        audit_log.write(b'{"a":"%b"}' % (b"x" * (MAX_LINE - 8)))
        [line] = output.read_lines(1)
    assert MAX_LINE < len(line) <= MAX_WRITE


def test_full_queue_makes_sessions_unavailable_until_it_is_written(
    output: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    output.fill()
    with logging_to(output.writer) as audit_log:
        kept = 0
        while is_available(audit_log):
            audit_log.write(LINE)
            kept += 1
        assert LIMIT - 2 * MAX_WRITE < kept * len(LINE) < LIMIT
        assert audit_log.state == "blocked"
        while not audit_log.lost_lines:
            audit_log.write(LINE)
            kept += 1
        audit_log.write(LINE)
        kept -= 1
        assert (audit_log.waiting_lines, audit_log.lost_lines) == (kept, 2)
        assert [line["seq"] for line in read(output.read_lines(kept))] == [*range(1, kept + 1)]
        wait_until(lambda: audit_log.state == "up")
        assert is_available(audit_log)
    assert outages(caplog) == [
        (
            "WARNING",
            "the audit log is not written: standard output is blocked, and the queue is full",
        ),
        ("INFO", "the audit log is written again; lines lost since start: 2"),
    ]


async def test_refusals_use_half_of_the_queue_and_displace_nothing(
    output: Pipe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REPORT_SECONDS", 0.1)
    caplog.set_level(logging.INFO)
    output.fill()
    audit_log = AuditLog(output.writer, limit=LIMIT)
    audit_log.start()
    while not audit_log.dropped_refusals:
        audit_log.write_refusal(LINE)
    refused = audit_log.waiting_lines
    assert LIMIT // 2 - MAX_WRITE < refused * len(LINE) <= LIMIT // 2
    assert audit_log.state == "up"
    assert is_available(audit_log)
    audit_log.write(ONE)
    for _ in range(9):
        audit_log.write_refusal(LINE)
    await asyncio.sleep(0.15)  # the first report
    for _ in range(5):
        audit_log.write_refusal(LINE)
    lines = read(await asyncio.to_thread(output.read_lines, refused + 2))
    await asyncio.sleep(0.25)  # the second report, and the end of the drops
    audit_log.write_refusal(TWO)
    lines += read(await asyncio.to_thread(output.read_lines, 2))
    await audit_log.stop(10)
    assert [line["seq"] for line in lines] == [*range(1, refused + 5)]
    (at_first, first), (at_last, last) = [
        (number, line) for number, line in enumerate(lines) if "event" in line
    ]
    assert (at_first, at_last) == (refused + 1, refused + 2)
    assert list(first) == ["event", "timestamp", "count", "instance", "seq"]
    assert (first["event"], first["count"], last["count"]) == ("vapi_audit_dropped", 10, 5)
    assert (audit_log.dropped_refusals, audit_log.lost_lines) == (15, 0)
    assert outages(caplog) == [
        ("WARNING", "audit lines of refusals are dropped: half of the queue is in use"),
        ("INFO", "refusals are in the audit log again; lines dropped since start: 15"),
    ]


async def test_dropped_refusals_are_reported_at_the_end(output: Pipe) -> None:
    output.fill()
    audit_log = AuditLog(output.writer, limit=LIMIT)
    audit_log.start()
    while not audit_log.dropped_refusals:
        audit_log.write_refusal(LINE)
    reading = asyncio.create_task(asyncio.to_thread(output.read_lines, audit_log.waiting_lines + 1))
    await audit_log.stop(10)
    *_, last = read(await reading)
    assert (last["event"], last["count"]) == ("vapi_audit_dropped", 1)


async def test_report_waits_for_a_place(output: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REPORT_SECONDS", 0.05)
    output.fill()
    audit_log = AuditLog(output.writer, limit=LIMIT)
    audit_log.start()
    while is_available(audit_log):
        audit_log.write(LINE)
    audit_log.write_refusal(LINE)
    kept = audit_log.waiting_lines
    await asyncio.sleep(0.1)
    assert audit_log.waiting_lines == kept
    *_, last = read(await asyncio.to_thread(output.read_lines, kept + 1))
    assert (last["event"], last["count"], last["seq"]) == ("vapi_audit_dropped", 1, kept + 1)
    await audit_log.stop(10)


def test_end_of_the_thread_is_an_outage(
    output: Pipe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("threading.excepthook", lambda _: None)
    monkeypatch.setattr("server.observability.line_writer.os.write", fail)
    audit_log = AuditLog(output.writer)
    audit_log.start()
    audit_log.write(ONE)
    wait_until(lambda: not is_available(audit_log))
    assert audit_log.state == "failing"
    asyncio.run(audit_log.stop(10))
    assert audit_log.lost_lines == 1
    assert outages(caplog)[0] == (
        "WARNING",
        "the audit log is not written: the writing thread has ended; restart the process",
    )


def test_lines_are_written_to_a_file_in_large_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = os.write

    def record(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr("server.observability.line_writer.os.write", record)
    with (tmp_path / "lines").open("wb") as file:
        audit_log = AuditLog(file.fileno())
        for _ in range(200):
            audit_log.write(LINE)
        audit_log.start()
        asyncio.run(audit_log.stop(10))
    assert len(read((tmp_path / "lines").read_bytes().splitlines())) == 200
    assert all(size <= MAX_FILE_WRITE for size in sizes)
    assert max(sizes) > MAX_FILE_WRITE - 1000


def test_failing_write_makes_sessions_unavailable_until_one_succeeds(
    output: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with output.duplicate() as descriptor:
        redirect(descriptor, "/dev/full")
        with logging_to(descriptor) as audit_log:
            assert is_available(audit_log)
            audit_log.write(ONE)
            wait_until(lambda: audit_log.state == "failing")
            with pytest.raises(ApiError) as refused:
                audit_log.ensure_writable()
            assert refused.value.code is ErrorCode.AUDIT_UNAVAILABLE
            assert refused.value.headers["Retry-After"] == "5"
            audit_log.write(TWO)
            os.dup2(output.writer, descriptor)
            wait_until(lambda: is_available(audit_log))
            assert [line["name"] for line in read(output.read_lines(2))] == ["one", "two"]
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
        audit_log.write(ONE)
        wait_until(lambda: audit_log.state == "blocked")
        assert is_available(audit_log)
        audit_log.write(TWO)
        assert [line["name"] for line in read(output.read_lines(2))] == ["one", "two"]
        wait_until(lambda: audit_log.state == "up")
    assert [level for level, _ in outages(caplog)] == ["WARNING", "INFO"]


def test_lines_still_waiting_at_the_end_are_counted_and_logged(
    output: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    output.fill()
    audit_log = AuditLog(output.writer, limit=LIMIT)
    audit_log.start()
    audit_log.write(ONE)
    audit_log.write(TWO)
    asyncio.run(audit_log.stop(0.05))
    assert audit_log.lost_lines == 2
    assert outages(caplog) == [
        ("ERROR", "2 audit lines were lost at shutdown: standard output is blocked")
    ]
    output.read()  # ends the thread


def test_standard_output_that_was_closed_at_start_makes_sessions_unavailable() -> None:
    audit_log = AuditLog(CLOSED)
    audit_log.start()
    audit_log.write(ONE)
    wait_until(lambda: not is_available(audit_log))
    asyncio.run(audit_log.stop(0))
    assert audit_log.lost_lines == 1

"""Lines written from a thread: whole, in order, and none lost while the reader is blocked."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import sleep

import pytest

from server.observability.line_writer import MAX_WRITE, LineWriter
from tests.server.observability.pipes import Pipe, pipe


@pytest.fixture
def output() -> Iterator[Pipe]:
    with pipe() as made:
        yield made


def lines(count: int, size: int = 100) -> list[bytes]:
    return [f"{number}".ljust(size - 1, ".").encode() + b"\n" for number in range(count)]


def test_lines_are_written_in_order(output: Pipe) -> None:
    writer = LineWriter(output.writer)
    writer.start()
    expected = lines(300)
    for line in expected:
        writer.append(line)
    assert output.read_until(expected[-1]) == expected
    assert writer.close(10) == 0
    assert writer.is_finished
    assert (writer.waiting_lines, writer.waiting_bytes, writer.progress_at) == (0, 0, None)


def test_a_write_has_whole_lines_and_at_most_4096_bytes() -> None:
    reader, sink = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps writes apart
    with reader, sink:
        writer = LineWriter(sink.fileno())
        sizes = [100] * 50 + [4096, 1, 4095, 2, 4000, 96, 97]
        expected = [b"x" * (size - 1) + b"\n" for size in sizes]
        for line in expected:
            writer.append(line)
        writer.start()
        assert writer.close(10) == 0
        sink.close()
        writes = list(iter(lambda: reader.recv(2**16), b""))
    assert all(len(each) <= MAX_WRITE and each.endswith(b"\n") for each in writes)
    assert b"".join(writes) == b"".join(expected)
    assert [len(each) for each in writes] == [4000, 1000, 4096, 4096, 4002, 96 + 97]


def test_a_line_longer_than_a_write_is_written_alone() -> None:
    reader, sink = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reader, sink:
        writer = LineWriter(sink.fileno())
        expected = [b"short\n", b"x" * 5000 + b"\n", b"short\n"]
        for line in expected:
            writer.append(line)
        writer.start()
        assert writer.close(10) == 0
        assert [reader.recv(2**16) for _ in expected] == expected


class Results:
    """The results that a writer reports."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.failed, self.succeeded = Event(), Event()

    def __call__(self, error: OSError | None) -> None:
        if error is None:
            self.succeeded.set()
        else:
            self.errors.append(str(error.strerror))
            self.failed.set()


def test_a_descriptor_that_is_not_ready_is_not_a_failure(output: Pipe) -> None:
    output.fill()
    os.set_blocking(output.writer, False)
    results = Results()
    writer = LineWriter(output.writer, on_result=results)
    writer.start()
    expected = lines(2000)
    for line in expected:
        writer.append(line)
    while writer.progress_at is None:
        sleep(0.001)
    assert output.read_until(expected[-1]) == expected
    assert writer.close(10) == 0
    assert results.errors == []


@pytest.fixture
def slow() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return reader and writer of a socket that takes some 8 KB at a time."""
    reader, sink = socket.socketpair()
    with reader, sink:
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sink.setblocking(False)
        yield reader, sink


LONG_LINE = b"".join(b"%d " % number for number in range(20_000)) + b"\n"


def read(reader: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += reader.recv(2**16)
    return data


def test_a_short_write_is_continued(slow: tuple[socket.socket, socket.socket]) -> None:
    reader, sink = slow
    writer = LineWriter(sink.fileno())
    writer.append(LONG_LINE)
    writer.append(b"next\n")
    writer.start()
    expected = LONG_LINE + b"next\n"
    assert read(reader, len(expected)) == expected
    assert writer.close(10) == 0


def redirect(descriptor: int, path: Path) -> None:
    """Make the descriptor refer to this file."""
    target = os.open(path, os.O_WRONLY)
    os.dup2(target, descriptor)
    os.close(target)


FULL = Path("/dev/full")


def test_a_line_is_completed_after_a_failure_in_the_middle(
    slow: tuple[socket.socket, socket.socket],
) -> None:
    reader, sink = slow
    descriptor = os.dup(sink.fileno())
    results = Results()
    writer = LineWriter(descriptor, on_result=results)
    writer.append(LONG_LINE)
    writer.start()
    assert results.succeeded.wait(10)
    redirect(descriptor, FULL)
    start = reader.recv(2**16)
    assert 0 < len(start) < len(LONG_LINE)
    assert results.failed.wait(10)
    os.dup2(sink.fileno(), descriptor)
    assert start + read(reader, len(LONG_LINE) - len(start)) == LONG_LINE
    assert writer.close(10) == 0
    os.close(descriptor)


@pytest.mark.parametrize("cause", ["blocked", "not ready", "failing"])
def test_closing_is_bounded(output: Pipe, cause: str) -> None:
    output.fill()
    if cause == "not ready":
        os.set_blocking(output.writer, False)
    if cause == "failing":
        redirect(output.writer, FULL)
    writer = LineWriter(output.writer)
    writer.start()
    expected = lines(300)
    for line in expected:
        writer.append(line)
    assert writer.close(0.1) == 300
    if cause == "blocked":
        assert not writer.is_finished
        output.read()  # ends the write
    writer._thread.join(10)
    assert writer.is_finished


def test_closing_what_was_never_started(output: Pipe) -> None:
    writer = LineWriter(output.writer)
    assert writer.close(10) == 0
    writer.append(b"line\n")
    assert writer.close(10) == 1

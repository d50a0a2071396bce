"""The standard streams, also when they were closed at start."""

import os
import subprocess
import sys

import pytest

from server.observability.log_records import CLOSED, standard_error, standard_output


@pytest.mark.parametrize(("stream", "output"), [(object(), 1), (None, CLOSED)])
def test_standard_output(monkeypatch: pytest.MonkeyPatch, stream: object, output: int) -> None:
    monkeypatch.setattr("sys.__stdout__", stream)
    assert standard_output() == output


@pytest.mark.parametrize(("stream", "error"), [(object(), 2), (None, CLOSED)])
def test_standard_error(monkeypatch: pytest.MonkeyPatch, stream: object, error: int) -> None:
    monkeypatch.setattr("sys.__stderr__", stream)
    assert standard_error() == error


REPORT = """
import os, sys
from server.observability.log_records import *
reserve_standard_streams()
descriptor = os.open("/dev/null", os.O_RDONLY)
os.write(int(sys.argv[1]), f"{standard_output()} {standard_error()} {descriptor}".encode())
"""


@pytest.mark.parametrize(
    ("closed", "expected"), [("", "1 2"), ("1>&-", "-1 2"), ("0<&- 1>&- 2>&-", "-1 -1")]
)
def test_closed_streams_are_not_reused(closed: str, expected: str) -> None:
    reader, writer = os.pipe()
    command = f"exec {sys.executable} -c '{REPORT}' {writer} {closed}"
    subprocess.run(["sh", "-c", command], check=True, pass_fds=[writer])
    os.close(writer)
    with os.fdopen(reader) as report:
        *found, descriptor = report.read().split()
    assert " ".join(found) == expected
    assert int(descriptor) > 2

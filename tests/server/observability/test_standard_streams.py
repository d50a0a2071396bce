"""The standard streams, also when they were closed at start."""

import os
import subprocess
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from rig.process import ALONE, ONE_WORKER, ROOT, launch
from rig.redis_server import free_port
from rig.service import VARIABLES
from rig.waiting import eventually
from rig.wire import exchange, get
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


@dataclass(frozen=True, slots=True)
class At:
    """A port of loopback."""

    port: int


@pytest.mark.parametrize(
    ("command", "redirected"),
    [
        (ALONE, "2>&-"),
        (ALONE, "2>/dev/full"),
        ((*ONE_WORKER, "-c", f"{ROOT}/gunicorn.conf.py"), "2>&-"),
    ],
    ids=["closed", "full", "gunicorn, closed"],
)
async def test_service_needs_no_standard_error(
    tmp_path: Path, command: Sequence[str], redirected: str
) -> None:
    service = At(free_port())
    variables = {**VARIABLES, "PORT": str(service.port)}
    shell = ("sh", "-c", f'exec "$@" {redirected}', "sh", *command)
    process = await launch(tmp_path, variables, *shell, stdout=DEVNULL)

    async def answers() -> bool:
        with suppress(OSError):
            return (await exchange(service, b"nonsense\r\n\r\n")).status == 400
        return False

    await eventually(answers, seconds=30)
    for _ in range(5):
        assert await answers()
        assert (await exchange(service, get("/healthz"))).status == 200
    process.terminate()
    await process.communicate()
    assert process.returncode == 0

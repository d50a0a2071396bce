"""Where lines go, and in which shape."""

import asyncio
import json
import logging
import sys
from io import TextIOWrapper
from pathlib import Path

import pytest

from server.observability.audit_log import AuditLog, write_to_standard_output
from server.observability.logging import configure_logging


def test_a_json_line_holds_what_a_machine_looks_for(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    log = logging.getLogger("a.b")
    log.debug("unseen")
    log.error("one\n%s", "two", extra={"request_id": "r"})
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    record = json.loads(line)
    assert record.pop("timestamp")
    assert record == {
        "level": "ERROR",
        "logger": "a.b",
        "message": "one\ntwo",
        "request_id": "r",
    }


def test_a_stack_trace_stays_on_its_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    try:
        int("here")
    except ValueError:
        logging.getLogger("a").exception("it failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exc_info"]


def test_people_read_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("WARNING", "console")
    logging.getLogger("a").info("unseen")
    logging.getLogger("a").warning("seen")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING  a: seen")


async def test_lines_of_one_turn_leave_in_one_write() -> None:
    writes: list[bytes] = []
    audit = AuditLog(writes.append)
    audit(b"one")
    audit(b"two")
    assert writes == []
    await asyncio.sleep(0)
    assert writes == [b"one\ntwo\n"]
    audit(b"three")
    audit.flush()
    await asyncio.sleep(0)
    assert writes == [b"one\ntwo\n", b"three\n"]


def test_a_line_is_out_at_once(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_to_standard_output(b"a line\n")
    assert capfdbinary.readouterr().out == b"a line\n"


def test_lines_that_cannot_be_written_are_told_to_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # A device that is always full.
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stdout", TextIOWrapper(full, write_through=True))
        write_to_standard_output(b"a line\n")
    assert "audit lines were lost: OSError" in caplog.text

"""Log records: their format, and a standard error that is blocked."""

import json
import logging
import os
from collections.abc import Iterator

import pytest

from server.observability.log_records import ThreadedHandler, UnthreadedHandler, configure_logging
from tests.server.observability.pipes import Pipe, pipe


@pytest.fixture(params=[False, True], ids=["threaded", "unthreaded"])
def forks(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def logged(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Close the log; return its lines."""
    for handler in logging.getLogger().handlers:
        handler.close()
    out, err = capfd.readouterr()
    assert out == ""
    return err.splitlines()


def test_json_record(capfd: pytest.CaptureFixture[str], *, forks: bool) -> None:
    configure_logging("INFO", "json", forks=forks)
    log = logging.getLogger("a.b")
    log.debug("unseen")
    log.error("one\n%s", "two", extra={"request_id": "r"})
    (line,) = logged(capfd)
    record = json.loads(line)
    assert record.pop("timestamp")
    assert record == {
        "level": "ERROR",
        "logger": "a.b",
        "process": os.getpid(),
        "message": "one\ntwo",
        "request_id": "r",
    }


def test_stack_trace_is_part_of_the_json_record(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    try:
        int("here")
    except ValueError:
        logging.getLogger("a").exception("it failed")
    (line,) = logged(capfd)
    assert "ValueError: invalid literal" in json.loads(line)["exc_info"]


def test_console_record(capfd: pytest.CaptureFixture[str], *, forks: bool) -> None:
    configure_logging("WARNING", "console", forks=forks)
    logging.getLogger("a").info("unseen")
    logging.getLogger("a").warning("seen")
    (line,) = logged(capfd)
    assert line.endswith("WARNING  a: seen")


def test_console_record_has_the_request_id(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "console")
    try:
        int("here")
    except ValueError:
        logging.getLogger("a").exception("it failed", extra={"request_id": "request-1"})
    first, *trace = logged(capfd)
    assert first.endswith("ERROR    a: it failed [request-1]")
    assert trace[0].startswith("Traceback")


def test_record_that_cannot_be_formatted(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    logging.getLogger("a").info("%d", "not a number")
    logging.getLogger("a").info("the next")
    *error, line = logged(capfd)
    assert "--- Logging error ---" in error
    assert json.loads(line)["message"] == "the next"


def test_text_that_utf_8_cannot_encode(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "console")
    logging.getLogger("a").info("\ud800")
    (line,) = logged(capfd)
    assert line.endswith("INFO     a: \\ud800")


@pytest.fixture
def stderr() -> Iterator[Pipe]:
    with pipe() as made:
        yield made


def handle(handler: logging.Handler, message: str) -> None:
    handler.handle(logging.makeLogRecord({"msg": message}))


def test_blocked_standard_error_does_not_block_the_service(stderr: Pipe) -> None:
    handler = ThreadedHandler(stderr.writer)
    stderr.fill()
    for number in range(2000):  # 2 MB: more than the pipe and the queue take
        handle(handler, f"{number} {'x' * 1000}")
    last = handler._writer._lines[-1]
    kept = stderr.read_until(last)
    handle(handler, "the next")
    note, record = stderr.read_until(b"the next\n")
    handler.close()
    assert 900 < len(kept) < 1100
    assert [line.split()[0] for line in kept] == [b"%d" % each for each in range(len(kept))]
    assert note.startswith(b"%d log records were dropped" % (2000 - len(kept)))
    assert record == b"the next\n"


def test_blocked_standard_error_does_not_prevent_the_end(stderr: Pipe) -> None:
    handler = ThreadedHandler(stderr.writer)
    stderr.fill()
    handle(handler, "late")
    handler.close()
    assert b"late" not in stderr.read()


def test_unthreaded_handler_drops_records_while_standard_error_is_blocked(stderr: Pipe) -> None:
    with open(stderr.writer, "w", encoding="utf-8", closefd=False) as stream:
        handler = UnthreadedHandler(stream)
        stderr.fill()
        handle(handler, "dropped")
        stderr.read()
        handle(handler, "written")
    assert stderr.read_until(b"written\n")[-1] == b"written\n"

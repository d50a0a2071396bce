"""What runs beside the requests outlives its own faults."""

import pytest

from server.serving import supervisor as background
from server.serving.supervisor import supervise


async def test_what_ends_by_itself_is_left_alone() -> None:
    runs = []

    async def run() -> None:
        runs.append(1)

    await supervise(run)
    assert len(runs) == 1


async def test_what_fails_is_told_and_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "_RESTART_SECONDS", 0)
    runs = []

    async def run() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise ZeroDivisionError("unforeseen")

    await supervise(run)
    assert len(runs) == 3
    assert caplog.text.count("ZeroDivisionError: unforeseen") == 2

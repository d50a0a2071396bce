"""Background tasks are restarted after an error."""

import pytest

from server.serving import supervisor
from server.serving.supervisor import supervise


async def test_task_that_returns_is_not_restarted() -> None:
    runs = []

    async def run() -> None:
        runs.append(1)

    await supervise(run)
    assert len(runs) == 1


async def test_task_that_fails_is_logged_and_restarted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "_RESTART_SECONDS", 0)
    runs = []

    async def run() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise ZeroDivisionError("unforeseen")

    await supervise(run)
    assert len(runs) == 3
    assert caplog.text.count("ZeroDivisionError: unforeseen") == 2

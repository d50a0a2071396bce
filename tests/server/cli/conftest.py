"""Fixtures for the command line."""

from pathlib import Path

import pytest

from server.config.settings import VARIABLES as NAMES
from tests.support import VARIABLES


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set the variables of a valid configuration, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return monkeypatch

"""Shared by the tests of the configuration."""

import pytest

from rig.service import NO_FILE, VARIABLES
from server.config import load_settings
from server.config.loader import SettingsError


def faults(**variables: str) -> dict[str, str]:
    """Load with these changes; return each fault by the variable that it names."""
    with pytest.raises(SettingsError) as caught:
        load_settings({**VARIABLES, **variables}, NO_FILE)
    return dict(fault.split(": ", 1) for fault in caught.value.faults)

"""Loads the settings: reads every variable, applies the rules, and reports all faults together."""

import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from server.config.environment import EnvironmentReader
from server.config.settings import Settings
from server.config.validation import validate


class SettingsError(Exception):
    """The configuration is invalid; each of `faults` names a variable and no value."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load_settings(
    environ: Mapping[str, str] | None = None, dotenv: Path = Path(".env")
) -> Settings:
    """Load the settings from the environment, then from a `.env` file of the working directory.

    Raises `SettingsError` with every fault, not only the first.
    """
    try:
        env = EnvironmentReader(os.environ if environ is None else environ, dotenv)
    except OSError as error:
        raise SettingsError([f"{dotenv}: cannot be read ({error.strerror})"]) from None
    values = {item.name: _read(env, item) for item in fields(Settings)}
    own = env.faults()
    settings, more = validate(Settings(**values), frozenset(own))
    # A faulty variable was read as unset: faults that follow from that are not reported.
    faults = [*own.items(), *((name, fault) for name, fault in more if name not in own)]
    if faults:
        lines = (f"{env.source_of(name)}: {fault}" for name, fault in faults)
        raise SettingsError(sorted(lines))
    return settings


def _read(env: EnvironmentReader, item: Field[Any]) -> Any:
    """Read the variable of a field; a missing or faulty one is recorded and reads as unset."""
    default = ... if item.default is MISSING else item.default
    rules = item.metadata["rules"]
    value = env.setting(item.name.upper(), default, unset=default, kind=item.type, rules=rules)
    return ("" if default is ... else default) if value is None else value

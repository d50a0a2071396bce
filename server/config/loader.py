"""Loads the settings: reads every variable, applies the rules, and reports all faults together."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Final

from server.config.environment import EnvironmentReader
from server.config.settings import Settings
from server.config.sources import Sources, read_sources
from server.config.spelling import printable
from server.config.validation import validate
from server.config.warnings import find_questionable

log = logging.getLogger(__name__)

_DOTENV: Final = Path(".env")


class SettingsError(Exception):
    """The configuration is invalid.

    Each of `faults` is a line that names a variable and no value; so is each of `warnings`, which
    may explain a fault.
    """

    def __init__(self, faults: list[str], warnings: Sequence[str] = ()) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
        self.warnings = warnings


@dataclass(frozen=True, slots=True)
class Configuration:
    """Valid settings, and lines about them that name a variable and no value.

    `warnings` are about variables that were ignored, and are logged at start. `check` also reports
    `advice`, which is about valid settings that are probably a mistake.
    """

    settings: Settings
    warnings: tuple[str, ...]
    advice: tuple[str, ...]

    def log_warnings(self) -> None:
        """Write a log record for each warning."""
        for warning in self.warnings:
            log.warning("%s", warning)


def load_settings(environ: Mapping[str, str] | None = None, dotenv: Path = _DOTENV) -> Settings:
    """Load the settings from the environment, then from a `.env` file of the working directory.

    Logs the warnings. Raises `SettingsError` with every fault, not only the first.
    """
    configuration = load_configuration(environ, dotenv)
    configuration.log_warnings()
    return configuration.settings


def load_configuration(
    environ: Mapping[str, str] | None = None, dotenv: Path = _DOTENV
) -> Configuration:
    """Load the settings like `load_settings`; return them with warnings and advice."""
    try:
        sources = read_sources(os.environ if environ is None else environ, dotenv)
    except OSError as error:
        raise SettingsError([f"{dotenv}: cannot be read ({error.strerror})"]) from None
    settings = _load(sources)
    return Configuration(settings, sources.warnings, tuple(find_questionable(settings)))


def _load(sources: Sources) -> Settings:
    env = EnvironmentReader(sources.values)
    values = {item.name: _read(env, item) for item in fields(Settings)}
    # The first fault of a variable counts: a faulty one reads as unset, which can cause others.
    faults = {**env.faults(), **sources.faults}
    settings, more = validate(Settings(**values), frozenset(faults))
    for name, text in more:
        faults.setdefault(name, text)
    if faults:
        lines = (f"{printable(sources.variable_of(name))}: {text}" for name, text in faults.items())
        raise SettingsError(sorted(lines), sources.warnings)
    return settings


def _read(env: EnvironmentReader, item: Field[Any]) -> Any:
    """Read the variable of a field; a missing or faulty one is recorded and reads as unset."""
    default = ... if item.default is MISSING else item.default
    rules = item.metadata["rules"]
    value = env.setting(item.name.upper(), default, unset=default, kind=item.type, rules=rules)
    return ("" if default is ... else default) if value is None else value

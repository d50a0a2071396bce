"""Loads the settings: reads every variable, applies the rules, and reports all faults together."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from environs import Env, EnvValidationError, ValidationError

from server.config.checks import advise, validate, warn
from server.config.settings import VARIABLES, Bundle, Pem, Settings
from server.config.sources import Sources, printable, read_sources
from server.config.validators import Rule, read_bundle

log = logging.getLogger(__name__)

_FRIENDLIER: Final = {"Environment variable not set.": "is required"}


class EnvironmentReader(Env):
    """Reads variables from a mapping, in which an empty value counts as unset."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(eager=False)
        self._variables = values
        self.add_parser("setting", _parse)

    def faults(self) -> dict[str, str]:
        """Finish reading; return the fault of each missing or invalid variable by its name."""
        try:
            self.seal()
        except EnvValidationError as error:
            messages: Any = error.error_messages  # for each name a list of one
            return {name: _FRIENDLIER.get(text, text) for name, (text,) in messages.items()}
        return {}

    def _get_value(self, env_key: str, default: Any) -> Any:
        return self._variables.get(env_key) or default


def _split(value: str) -> tuple[str, ...]:
    return tuple(item for part in value.split(",") if (item := part.strip()))


def _boolean(value: str) -> bool:
    return {"true": True, "false": False}[value.lower()]


def _pem(value: str) -> Pem:
    r"""Return a PEM whose line breaks may be written as `\n`: no PEM contains a backslash."""
    return Pem(value.replace("\\r", "").replace("\\n", "\n"))


_KINDS: Final[Mapping[object, tuple[Callable[[str], Any], str]]] = {
    str: (str, ""),
    int: (int, "must be a whole number"),
    float: (float, "must be a number"),
    bool: (_boolean, "must be true or false"),
    bytes: (os.fsencode, ""),
    Pem: (_pem, ""),
    Bundle: (read_bundle, "must be a file with PEM certificates that can be read"),
    tuple[str, ...]: (_split, ""),
}


def _parse(text: str | None, *, kind: object, rules: tuple[Rule, ...]) -> Any:
    """Convert the text of a variable to a value of this kind and apply its rules."""
    if text is None:
        return None
    convert, demand = _KINDS[kind]
    try:
        converted = convert(text)
    except (ValueError, KeyError):
        raise ValidationError(demand) from None
    for rule in rules:
        rule(converted)
    return converted


EX_CONFIG: Final = 78
"""The exit status for an invalid configuration (sysexits.h)."""

_DOTENV: Final = Path(".env")
_VARIABLE: Final = re.compile(rf"\b({'|'.join(VARIABLES)})\b")


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

    `warnings` are about ignored variables and about Redis without encryption; they are logged at
    start. `check` also reports `advice`, which is about valid settings that are probably a mistake.
    `sources` tells a reload what `.env` contained.
    """

    settings: Settings
    warnings: tuple[str, ...]
    advice: tuple[str, ...]
    sources: Sources

    def log_warnings(self) -> None:
        """Write a log record for each warning."""
        for warning in self.warnings:
            log.warning("%s", warning)


def load_settings(
    environ: Mapping[str, str] | None = None, dotenv: Path = _DOTENV, *, prefix: str = ""
) -> Settings:
    """Load the settings from the environment, then from a `.env` file of the working directory.

    It is for host applications: lines of `.env` that name no variable of the service are ignored.
    With `prefix="VAPI_SESSIONS_"`, `VAPI_SESSIONS_JWT_SECRET` is read in place of `JWT_SECRET`, and
    so on. Logs the warnings. Raises `SettingsError` with every fault, not only the first.
    """
    configuration = load_configuration(environ, dotenv, prefix=prefix, hosted=True)
    configuration.log_warnings()
    return configuration.settings


def load_configuration(
    environ: Mapping[str, str] | None = None,
    dotenv: Path = _DOTENV,
    *,
    prefix: str = "",
    hosted: bool = False,
) -> Configuration:
    """Load the settings, and the warnings about them. Raises `SettingsError`.

    Unless it is `hosted` by another application, every line of `.env` belongs to the service.
    """
    environ = os.environ if environ is None else environ
    try:
        sources = read_sources(environ, dotenv, prefix=prefix, hosted=hosted)
    except OSError as error:
        raise SettingsError([f"{dotenv}: cannot be read ({error.strerror})"]) from None
    prefixed = partial(_prefixed, prefix, dotenv.name)
    warnings = prefixed(sources.warnings)
    try:
        settings = _load(sources)
    except SettingsError as error:
        raise SettingsError(list(prefixed(error.faults)), warnings) from None
    warnings += prefixed(warn(settings))
    return Configuration(settings, warnings, prefixed(advise(settings)), sources)


def load_or_exit(status: int = EX_CONFIG) -> Configuration:
    """Load the settings; on a fault, print all faults to standard error and exit with `status`."""
    try:
        return load_configuration()
    except SettingsError as error:
        exit_for_faults([*error.faults, *error.warnings], status)


def exit_for_faults(lines: Iterable[str], status: int) -> NoReturn:
    """Print the faults of the configuration to standard error, and exit."""
    text = "\n".join(("Invalid configuration:", *lines))
    sys.stderr.write(f"{text}\nconfig.example.env documents each variable.\n")
    raise SystemExit(status) from None


def _prefixed(prefix: str, file: str, lines: Iterable[str]) -> tuple[str, ...]:
    """Return lines with the prefix before each name of a variable; `file` is no variable."""

    def prefixed(line: str) -> str:
        name, colon, text = line.partition(": ")
        whole = name if name == file else prefix + name
        return whole + colon + _VARIABLE.sub(lambda found: prefix + found[0], text)

    return tuple(map(prefixed, lines))


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
        raise SettingsError(sorted(lines))
    return settings


def _read(env: EnvironmentReader, item: Field[Any]) -> Any:
    """Read the variable of a field; a missing or faulty one is recorded and reads as unset."""
    is_required, rules = item.default is MISSING, item.metadata["rules"]
    absent = ... if is_required else None  # what environs takes as required
    value = env.setting(item.name.upper(), absent, kind=item.type, rules=rules)
    if value is not None:
        return value
    return "" if is_required else item.default

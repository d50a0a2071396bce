"""The sources of settings: the environment, then a `.env` file, read with environs."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from dotenv import dotenv_values
from environs import Env, EnvValidationError, ValidationError

from server.config.validators import Rule

_FRIENDLIER: Final = {"Environment variable not set.": "is required"}


class EnvironmentReader(Env):
    """Reads the environment, then a `.env` file.

    An empty value counts as unset. Values are taken byte for byte: dotenv's expansion of `${…}` is
    off.
    """

    def __init__(self, environ: Mapping[str, str], dotenv: Path) -> None:
        super().__init__(eager=False)
        self._sources: tuple[Mapping[str, str | None], ...] = (environ, _read(dotenv))
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
        for source in self._sources:
            if value := source.get(env_key):
                return value
        return default


def _read(dotenv: Path) -> dict[str, str | None]:
    """Read a `.env` file; a missing file is empty. Raises OSError when it cannot be read."""
    try:
        with dotenv.open(encoding="utf-8", errors="surrogateescape") as stream:
            return dotenv_values(stream=stream, interpolate=False)
    except FileNotFoundError:
        return {}


def _split(value: str) -> tuple[str, ...]:
    return tuple(item for part in value.split(",") if (item := part.strip()))


def _boolean(value: str) -> bool:
    return {"true": True, "false": False}[value.lower()]


_KINDS: Final[Mapping[object, tuple[Callable[[str], Any], str]]] = {
    str: (str, ""),
    int: (int, "must be a whole number"),
    float: (float, "must be a number"),
    bool: (_boolean, "must be true or false"),
    bytes: (os.fsencode, ""),
    tuple[str, ...]: (_split, ""),
}


def _parse(value: Any, *, unset: object, kind: object, rules: tuple[Rule, ...]) -> Any:
    """Convert the text of a variable to a value of this kind and apply its rules."""
    if value is unset:
        return value
    convert, demand = _KINDS[kind]
    try:
        converted = convert(value)
    except (ValueError, KeyError):
        raise ValidationError(demand) from None
    for rule in rules:
        rule(converted)
    return converted

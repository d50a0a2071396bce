"""The sources of settings: the environment, then a `.env` file, read with environs."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from dotenv import dotenv_values
from environs import Env, EnvValidationError, ValidationError

from server.config.secret_files import file_variable, read_secret_files
from server.config.settings import SECRETS, Pem
from server.config.validators import Rule

_FRIENDLIER: Final = {"Environment variable not set.": "is required"}


class EnvironmentReader(Env):
    """Reads the environment, then a `.env` file, then the files of secrets.

    An empty value counts as unset. Values are taken byte for byte: dotenv's expansion of `${…}` is
    off.
    """

    def __init__(self, environ: Mapping[str, str], dotenv: Path) -> None:
        """Read the sources. Raises OSError when the `.env` file cannot be read."""
        super().__init__(eager=False)
        self.add_parser("setting", _parse)
        given = {**_read(dotenv), **{name: value for name, value in environ.items() if value}}
        self._variables = {name: value for name, value in given.items() if value}
        contents, self._file_faults = read_secret_files(self._variables, SECRETS)
        self._variables |= {name: content for name, content in contents.items() if content}
        self._from_files = (contents.keys() & self._variables.keys()) | self._file_faults.keys()

    def source_of(self, name: str) -> str:
        """Return the variable that gives the value of `name`: itself or its `NAME_FILE`."""
        return file_variable(name) if name in self._from_files else name

    def faults(self) -> dict[str, str]:
        """Finish reading; return the fault of each missing or invalid variable by its name."""
        try:
            self.seal()
        except EnvValidationError as error:
            messages: Any = error.error_messages  # for each name a list of one
            faults = {name: _FRIENDLIER.get(text, text) for name, (text,) in messages.items()}
            return {**faults, **self._file_faults}
        return self._file_faults

    def _get_value(self, env_key: str, default: Any) -> Any:
        return self._variables.get(env_key) or default


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

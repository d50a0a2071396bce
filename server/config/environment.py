"""Reads variables with environs: converts each value, applies its rules, collects the faults."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from environs import Env, EnvValidationError, ValidationError

from server.config.settings import Pem
from server.config.validators import Rule

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

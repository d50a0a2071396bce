"""Reads a `.env` file, and finds what in it would mislead: duplicates and unreadable lines."""

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Final

from dotenv.parser import Binding, parse_stream

_ENDS_PEM: Final = re.compile(r"\s*-----END ")
_ASSIGNED: Final = re.compile(r"\s*(?:export\s+)?([A-Z][A-Z0-9_]*)\s*=")


@dataclass(frozen=True, slots=True)
class DotenvFile:
    """The values of a `.env` file by name, and its faults by the name of a variable or the file."""

    values: Mapping[str, str] = field(repr=False)
    faults: Mapping[str, str]


def read_dotenv(path: Path) -> DotenvFile:
    """Read a `.env` file; a missing file is empty. `${…}` is not expanded.

    Raises OSError when the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return DotenvFile({}, {})
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return DotenvFile({}, {path.name: "is encoded in UTF-16; save it in UTF-8"})
    text = content.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    bindings = list(parse_stream(StringIO(text)))
    values = {each.key: each.value or "" for each in bindings if each.key is not None}
    return DotenvFile(
        values, _duplicates(bindings, path.name) | _unreadable_lines(bindings, path.name)
    )


def _line_number(binding: Binding) -> int:
    """Return the line of a binding; python-dotenv counts from the blank lines above it."""
    text, line = binding.original
    return line + text[: len(text) - len(text.lstrip())].count("\n")


def _duplicates(bindings: list[Binding], file: str) -> dict[str, str]:
    lines = _lines_by_name((each.key, each) for each in bindings if each.key is not None)
    return {
        name: f"is given more than once in {file}, on lines {numbers}; keep one"
        for name, numbers in lines.items()
        if " and " in numbers
    }


def _unreadable_lines(bindings: list[Binding], file: str) -> dict[str, str]:
    """Report what python-dotenv skips: a setting that is silently unset may be a check less.

    The end of a PEM without quotes is not reported here: its beginning is a fault of the variable.
    """
    unreadable = [each for each in bindings if each.error and not _ENDS_PEM.match(each.original[0])]
    lines = _lines_by_name((_assigned_name(each) or file, each) for each in unreadable)
    advice = {file: "write NAME=value"}
    return {
        name: f"cannot be read on line {numbers} of {file}; "
        + advice.get(name, "close the quote and end the line")
        for name, numbers in lines.items()
    }


def _assigned_name(binding: Binding) -> str | None:
    found = _ASSIGNED.match(binding.original.string)
    return found and found[1]


def _lines_by_name(bindings: Iterable[tuple[str, Binding]]) -> dict[str, str]:
    """Return the lines of each name: `3`, or `3 and 12`."""
    lines: dict[str, list[str]] = {}
    for name, binding in bindings:
        lines.setdefault(name, []).append(str(_line_number(binding)))
    return {
        name: " and ".join(filter(None, (", ".join(earlier), last)))
        for name, (*earlier, last) in lines.items()
    }

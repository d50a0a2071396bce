"""Reads a `.env` file, and finds duplicates and unreadable lines."""

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Final

from dotenv.parser import Binding, parse_stream

_ASSIGNED: Final = re.compile(r"\s*(?:export\s+)?([A-Z][A-Z0-9_]*)\s*=")
_BASE64: Final = re.compile(r"\s*[A-Za-z0-9+/]+={0,2}\s*")


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
    bindings = list(_without_pem_lines(parse_stream(StringIO(text))))
    values = {each.key: each.value or "" for each in bindings if each.key is not None}
    return DotenvFile(
        values, _duplicates(bindings, path.name) | _unreadable_lines(bindings, path.name)
    )


def _line_number(binding: Binding) -> int:
    """Return the line of a binding; python-dotenv counts from the blank lines above it."""
    text, line = binding.original
    return line + text[: len(text) - len(text.lstrip())].count("\n")


def _without_pem_lines(bindings: Iterable[Binding]) -> Iterator[Binding]:
    """Skip the lines of an unquoted PEM: read as names, they would put the key into messages.

    The first line remains, and is a fault of the variable.
    """
    in_pem = False
    for binding in bindings:
        text = binding.original.string
        in_pem = in_pem and (binding.error or bool(_BASE64.fullmatch(text)))
        if not in_pem:
            yield binding
            in_pem = "-----BEGIN " in text
        in_pem = in_pem and "-----END " not in text


def _duplicates(bindings: list[Binding], file: str) -> dict[str, str]:
    lines = _lines_by_name((each.key, each) for each in bindings if each.key is not None)
    return {
        name: f"is given more than once in {file}, on {_join(numbers)}; keep one"
        for name, numbers in lines.items()
        if len(numbers) > 1
    }


def _unreadable_lines(bindings: list[Binding], file: str) -> dict[str, str]:
    """Report what python-dotenv skips: a setting that is silently unset may disable a check."""
    lines = _lines_by_name((_assigned_name(each) or file, each) for each in bindings if each.error)
    advice = {file: "write NAME=value"}
    return {
        name: f"cannot be read on {_join(numbers)} of {file}; "
        + advice.get(name, "close the quote and end the line")
        for name, numbers in lines.items()
    }


def _assigned_name(binding: Binding) -> str | None:
    found = _ASSIGNED.match(binding.original.string)
    return found and found[1]


def _lines_by_name(bindings: Iterable[tuple[str, Binding]]) -> dict[str, list[int]]:
    lines: dict[str, list[int]] = {}
    for name, binding in bindings:
        lines.setdefault(name, []).append(_line_number(binding))
    return lines


def _join(numbers: list[int]) -> str:
    *earlier, last = map(str, numbers)
    return f"lines {', '.join(earlier)} and {last}" if earlier else f"line {last}"

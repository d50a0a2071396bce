"""The sources of the variables: the environment, a `.env` file, and the files of secrets."""

import codecs
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Final

from dotenv.parser import Binding, Original, parse_stream

from server.config.settings import IN_EITHER_CASE, SECRETS, VARIABLES, file_variable

_ASSIGNED: Final = re.compile(r"\s*(?:export\s+)?([A-Z][A-Z0-9_]*)\s*=")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BASE64: Final = re.compile(r"\s*[A-Za-z0-9+/]+={0,2}\s*")

MAX_FILE_BYTES: Final = 65536
_MAX_EDITS: Final = 2
_MIN_LENGTH: Final = 6

IsOurs = Callable[[str], bool]
"""Whether a name is a variable of the service."""


@dataclass(frozen=True, slots=True)
class DotenvFile:
    """The values of a `.env` file by name, and its faults by the name of a variable or the file.

    `ends_with_line_break` is false for a file that may have been cut off; an empty one has no end.
    """

    values: Mapping[str, str] = field(repr=False)
    faults: Mapping[str, str]
    ends_with_line_break: bool = True


def read_dotenv(path: Path, is_ours: IsOurs | None = None) -> DotenvFile:
    """Read a `.env` file; a missing file is empty. `${…}` is not expanded.

    With `is_ours`, lines that name no variable of the service belong to somebody else: they are
    neither read nor faults. Raises OSError when the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return DotenvFile({}, {})
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or (
        is_ours is None and b"\0" in content
    ):
        return DotenvFile({}, {path.name: "is encoded in UTF-16; save it in UTF-8"})
    text = content.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    bindings = list(_without_pem_lines(_parse(text)))
    ours = [each for each in bindings if is_ours is None or is_ours(_name(each))]
    values = {each.key: each.value for each in ours if each.key and each.value is not None}
    faults = {
        **_duplicates(ours, path.name),
        **_unreadable_lines(ours, path.name),
        **_wrongly_encoded(ours, path.name),
    }
    return DotenvFile(values, faults, text.endswith("\n") or not text)


def _parse(text: str, line: int = 1) -> Iterator[Binding]:
    """Parse a file. An unclosed quote spoils its own line only, not those up to the next quote."""
    for binding in parse_stream(StringIO(text)):
        whole, number = binding.original
        length = len(whole) - len(whole.lstrip())
        first_line = whole.find("\n", length) + 1 or len(whole)
        kept = whole[:first_line] if binding.error else whole
        yield binding._replace(original=Original(kept, number + line - 1))
        yield from _parse(whole[len(kept) :], number + line - 1 + kept.count("\n"))


def _name(binding: Binding) -> str:
    """Return the name that a binding assigns, also when its value cannot be read, or nothing."""
    found = _ASSIGNED.match(binding.original.string)
    return binding.key or (found[1] if found else "")


def _wrongly_encoded(bindings: Iterable[Binding], file: str) -> dict[str, str]:
    """Report text that is not UTF-8 (RFC 3629), comments included."""
    lines = [_line_number(each) for each in bindings if _SURROGATE.search(each.original.string)]
    return {file: f"is not UTF-8 on {_join(lines)}; save it in UTF-8"} if lines else {}


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
    """Report what python-dotenv skips: a setting that is silently unset may disable a check.

    A line without `=` may be a part of a secret: its fault names the file only.
    """
    lines = _lines_by_name(
        (_name(each) if each.error and _name(each) else file, each)
        for each in bindings
        if each.error or (each.key and each.value is None)
    )
    advice = {file: "write NAME=value"}
    return {
        name: f"cannot be read on {_join(numbers)} of {file}; "
        + advice.get(name, "close the quote and end the line")
        for name, numbers in lines.items()
    }


def _lines_by_name(bindings: Iterable[tuple[str, Binding]]) -> dict[str, list[int]]:
    lines: dict[str, list[int]] = {}
    for name, binding in bindings:
        lines.setdefault(name, []).append(_line_number(binding))
    return lines


def _join(numbers: list[int]) -> str:
    *earlier, last = map(str, numbers)
    return f"lines {', '.join(earlier)} and {last}" if earlier else f"line {last}"


def _read_secret_files(values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Read the file of each secret whose `NAME_FILE` is in `values`.

    Returns the contents and the faults, both by `NAME`. A secret that is also set directly is a
    fault.
    """
    contents, faults = {}, {}
    for name in SECRETS:
        path = values.get(file_variable(name))
        if path and values.get(name):
            faults[name] = f"conflicts with {name}: set only one of the two"
        elif path:
            try:
                contents[name] = _read(path)
            except OSError as error:
                faults[name] = f"the file cannot be read ({error.strerror})"
            except ValueError as error:
                faults[name] = str(error)
    return contents, faults


def _read(path: str) -> str:
    """Read a file byte for byte, without one line break at its end. Raises OSError, ValueError."""
    if "\0" in path:
        raise ValueError("must be the path of a file")
    with open(path, "rb") as file:  # noqa: PTH123  Path would add nothing
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"the file is longer than {MAX_FILE_BYTES} bytes")
    line_break = b"\r\n" if content.endswith(b"\r\n") else b"\n"
    secret = content.removesuffix(line_break)
    if not secret:
        raise ValueError("the file is empty")
    return os.fsdecode(secret)


def find_misspelled(names: Iterable[str], known: Collection[str]) -> Iterator[str]:
    """Yield a warning for each name that is unknown and within two edits of a known one.

    An edit inserts, deletes or replaces one character. The case of letters is ignored; names of
    fewer than six characters are skipped.
    """
    for name in names:
        if name not in known and len(name) >= _MIN_LENGTH:
            meant = _closest(name.upper(), known)
            if meant is not None:
                yield f"{printable(name)}: unknown; did you mean {meant}?"


def _closest(name: str, known: Collection[str]) -> str | None:
    for edits in range(_MAX_EDITS + 1):
        for candidate in sorted(known):
            if _is_within(name, candidate, edits):
                return candidate
    return None


def _is_within(one: str, other: str, edits: int) -> bool:
    """Return whether the Levenshtein distance of two names is at most `edits`."""
    if abs(len(one) - len(other)) > edits:
        return False
    if not one or not other:
        return True
    if one[0] == other[0]:
        return _is_within(one[1:], other[1:], edits)
    return edits > 0 and (
        _is_within(one[1:], other, edits - 1)
        or _is_within(one, other[1:], edits - 1)
        or _is_within(one[1:], other[1:], edits - 1)
    )


def printable(name: str) -> str:
    """Return a name in printable ASCII; other characters are escaped."""
    return name.encode("unicode_escape").decode()


_NOT_OURS: Final = frozenset({"HTTP_PROXY", "http_proxy"})
"""Names that other programs read, and that are no misspelled name of ours."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The values of all sources by name, without empty ones, and what is wrong with the sources.

    Names have no prefix. `file_names` are all names of `.env`, those with an empty value included.
    `from_files` names the secrets that a file gives. Faults are by name; the fault of a secret's
    file is by the name of the secret.
    """

    values: Mapping[str, str] = field(repr=False)
    from_files: frozenset[str]
    faults: Mapping[str, str]
    warnings: tuple[str, ...]
    file_names: frozenset[str] = frozenset()
    ends_with_line_break: bool = True

    def variable_of(self, name: str) -> str:
        """Return the variable that gives the value of `name`: itself or its `NAME_FILE`."""
        return file_variable(name) if name in self.from_files else name


def read_sources(
    environ: Mapping[str, str], dotenv: Path, *, prefix: str = "", hosted: bool = False
) -> Sources:
    """Read all sources: the environment wins over the file; an empty value counts as unset.

    With a prefix only variables that start with it count. `hosted`: `.env` belongs to a host
    application, whose other lines are no faults. Raises OSError when `.env` cannot be read.
    """
    file = read_dotenv(dotenv, _is_ours(prefix) if hosted else None)
    in_file, in_environ = _upper(_below(prefix, file.values)), _upper(_below(prefix, environ))
    given = {name: value for name, value in in_file.items() if value}
    given |= {name: value for name, value in in_environ.items() if value}
    contents, faults = _read_secret_files(given)
    names = in_file.keys() | in_environ.keys()
    return Sources(
        values=given | contents,
        from_files=frozenset(contents.keys() | faults.keys()),
        faults={**faults, **_below(prefix, file.faults, keep=dotenv.name)},
        warnings=tuple(find_misspelled(sorted(names - _NOT_OURS), VARIABLES)),
        file_names=frozenset(_below(prefix, file.values)),
        ends_with_line_break=file.ends_with_line_break,
    )


def _is_ours(prefix: str) -> IsOurs:
    """Return the rule for names in a host's file: those with the prefix, else the known ones."""
    ours = VARIABLES | IN_EITHER_CASE.keys()
    return (lambda name: name.startswith(prefix)) if prefix else ours.__contains__


def _upper(values: Mapping[str, str]) -> dict[str, str]:
    """Give the variables that are read in either case their name in upper case.

    Where both are given, the lower case wins, as in `urllib.request`.
    """
    in_lower = {
        upper: values[lower] for lower, upper in IN_EITHER_CASE.items() if values.get(lower)
    }
    return {name: value for name, value in values.items() if name not in IN_EITHER_CASE} | in_lower


def _below(prefix: str, values: Mapping[str, str], keep: str = "") -> dict[str, str]:
    """Return the entries whose name starts with the prefix, without it, and the entry `keep`."""
    return {
        name if name == keep else name.removeprefix(prefix): value
        for name, value in values.items()
        if name == keep or name.startswith(prefix)
    }

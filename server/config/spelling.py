"""Finds misspelled names of variables, which would otherwise be silently ignored."""

from collections.abc import Collection, Iterable, Iterator
from typing import Final

_MAX_EDITS: Final = 2
_MIN_LENGTH: Final = 6


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

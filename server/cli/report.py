"""Prints findings: aligned lines for people, coloured on a terminal, or a JSON document."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

_COLOURS: Final = {"ok": "32", "FAIL": "31", "warn": "33", "-": "2"}
"""ANSI codes (ECMA-48 SGR): green, red, yellow, faint."""
_MAX_NAMES: Final = 20
_MAX_NAME_LENGTH: Final = 40


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, whether it is sound (None: not checked), and why or what to do."""

    name: str
    ok: bool | None
    details: str


def print_report(
    parts: Sequence[Finding],
    warnings: Sequence[str],
    rules: Sequence[Finding] | None = None,
    *,
    as_json: bool,
) -> int:
    """Print the parts, the warnings, and the rules of a token if one was checked.

    Returns the exit status: 1 when a part or a rule is not sound.
    """
    ok = _are_sound(parts) and _are_sound(rules or ())
    if as_json:
        document: dict[str, Any] = {
            "ok": ok,
            "parts": _rows("part", parts),
            "warnings": list(warnings),
        }
        if rules is not None:
            document["token"] = {"ok": _are_sound(rules), "rules": _rows("rule", rules)}
        print(json.dumps(document))
    else:
        _print_lines([*map(_line, parts), *(("warn", "warning", text) for text in warnings)])
        if rules is not None:
            print()
            _print_lines([*map(_line, rules)])
    return 0 if ok else 1


def _are_sound(findings: Sequence[Finding]) -> bool:
    return all(finding.ok is not False for finding in findings)


def _rows(kind: str, findings: Sequence[Finding]) -> list[dict[str, object]]:
    return [{kind: each.name, "ok": each.ok, "details": each.details} for each in findings]


def _line(finding: Finding) -> tuple[str, str, str]:
    marks = {True: "ok", False: "FAIL", None: "-"}
    return marks[finding.ok], finding.name, finding.details


def _print_lines(lines: Sequence[tuple[str, str, str]]) -> None:
    width = max(len(name) for _, name, _ in lines)
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for mark, name, details in lines:
        shown = f"{mark:<4}"
        if coloured:
            shown = f"\x1b[{_COLOURS[mark]}m{shown}\x1b[0m"
        print(f"{shown}  {name:<{width}}  {details}")


def list_names(names: Iterable[str]) -> str:
    """Return names of claims, fit for a terminal: the first of them, cut and escaped."""
    every = sorted(names)
    shown = [name[:_MAX_NAME_LENGTH].encode("unicode_escape").decode() for name in every]
    return ", ".join(shown[:_MAX_NAMES]) + (", …" if len(every) > _MAX_NAMES else "")

"""Prints findings: aligned lines for people, coloured on a terminal, or a JSON document."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_COLOURS: Final = {"ok": "32", "FAIL": "31", "warn": "33", "-": "2"}
"""ANSI codes (ECMA-48 SGR): green, red, yellow, faint."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, whether it is sound (None: not checked), and why or what to do."""

    name: str
    ok: bool | None
    details: str


def print_report(
    findings: Sequence[Finding], *, kind: str, as_json: bool, warnings: Sequence[str] = ()
) -> int:
    """Print the findings and warnings; return the exit status: 1 when a finding is not sound.

    `kind` names what was checked. It is a key of the JSON document, and `kind` + `s` is another.
    """
    ok = all(finding.ok is not False for finding in findings)
    if as_json:
        rows = [{kind: each.name, "ok": each.ok, "details": each.details} for each in findings]
        print(json.dumps({"ok": ok, f"{kind}s": rows, "warnings": list(warnings)}))
    else:
        _print_lines([*map(_line, findings), *(("warn", "warning", text) for text in warnings)])
    return 0 if ok else 1


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

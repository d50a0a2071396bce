"""The report of findings: aligned lines, colours on a terminal, or JSON."""

import json
import sys

import pytest

from server.cli.report import Finding, print_report

Captured = pytest.CaptureFixture[str]
FINDINGS = [
    Finding("a", True, "is sound"),
    Finding("longer", False, "check X"),
    Finding("b", None, "not checked: Y"),
]


def test_lines_are_aligned(capsys: Captured) -> None:
    assert print_report(FINDINGS, kind="part", as_json=False, warnings=["Z: unusual"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok    a        is sound",
        "FAIL  longer   check X",
        "-     b        not checked: Y",
        "warn  warning  Z: unusual",
    ]


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_only_a_terminal_gets_colours(
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    terminal: object,
    no_color: str,
    coloured: object,
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    print_report(FINDINGS, kind="part", as_json=False)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("\x1b[32mok  \x1b[0m  a" if coloured else "ok    a")
    assert second.startswith("\x1b[31mFAIL\x1b[0m  longer" if coloured else "FAIL  longer")


def test_json_is_one_document(capsys: Captured) -> None:
    assert print_report(FINDINGS, kind="rule", as_json=True, warnings=["Z: unusual"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "rules": [
            {"rule": "a", "ok": True, "details": "is sound"},
            {"rule": "longer", "ok": False, "details": "check X"},
            {"rule": "b", "ok": None, "details": "not checked: Y"},
        ],
        "warnings": ["Z: unusual"],
    }


def test_warnings_and_unchecked_findings_are_not_failures(capsys: Captured) -> None:
    findings = [FINDINGS[0], FINDINGS[2]]
    assert print_report(findings, kind="part", as_json=True, warnings=["Z"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True

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
    assert print_report(FINDINGS, ["Z: unusual"], as_json=False) == 1
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
    print_report(FINDINGS, [], as_json=False)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("\x1b[32mok  \x1b[0m  a" if coloured else "ok    a")
    assert second.startswith("\x1b[31mFAIL\x1b[0m  longer" if coloured else "FAIL  longer")


def test_json_is_one_document(capsys: Captured) -> None:
    rows = [("a", True, "is sound"), ("longer", False, "check X"), ("b", None, "not checked: Y")]
    document = {
        "ok": False,
        "parts": [{"part": name, "ok": ok, "details": text} for name, ok, text in rows],
        "warnings": ["Z: unusual"],
    }
    assert print_report(FINDINGS, ["Z: unusual"], as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == document
    rules = [{"rule": name, "ok": ok, "details": text} for name, ok, text in rows]
    assert print_report(FINDINGS, ["Z: unusual"], FINDINGS, as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == {
        **document,
        "token": {"ok": False, "rules": rules},
    }


@pytest.mark.parametrize(
    ("parts", "rules", "ok", "token_ok"),
    [(0, 1, False, False), (1, 0, False, True), (0, 0, True, True)],
)
def test_a_part_or_a_rule_that_fails_is_a_failure(
    capsys: Captured, parts: int, rules: int, ok: object, token_ok: object
) -> None:
    status = print_report([FINDINGS[parts]], [], [FINDINGS[rules]], as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (status, document["ok"], document["token"]["ok"]) == (0 if ok else 1, ok, token_ok)


def test_rules_are_lines_of_their_own(capsys: Captured) -> None:
    print_report([FINDINGS[1]], [], FINDINGS[:1], as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "FAIL  longer  check X",
        "",
        "ok    a  is sound",
    ]


def test_warnings_and_unchecked_findings_are_not_failures(capsys: Captured) -> None:
    findings = [FINDINGS[0], FINDINGS[2]]
    assert print_report(findings, ["Z"], as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True

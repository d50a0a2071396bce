"""The report of `check`: aligned lines, colours on a terminal, or a JSON document."""

import json
import os
import pty
import re
import sys

import pytest

from server.cli.report import Finding, print_report
from tests.conftest import Command


async def test_report(command: Command) -> None:
    questionable = {"JWT_AUDIANCE": "voice", "VAPI_ASSISTANT_ID": "assistant"}
    ended = await command("check", **questionable)
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert [line[:20].split() for line in lines] == [
        ["ok", "configuration"],
        *(["ok", name] for name in ("vapi", "keys", "redis", "paused", "calls")),
        ["-", "service"],
        ["warn", "warning"],
        ["warn", "warning"],
    ]
    warning = "JWT_AUDIANCE: unknown; did you mean JWT_AUDIENCE?"
    assert f"warn  warning        {warning}" in lines
    unreachable = {"VAPI_CHECK_SECONDS": "30", "VAPI_BASE_URL": "http://127.0.0.1:1"}
    ended = await command("check", "--json", **unreachable)
    document = json.loads(ended.out)
    assert (ended.status, document["ok"]) == (1, False)
    assert [part["part"] for part in document["parts"] if part["ok"] is False] == ["vapi"]
    assert [text.split(":")[0] for text in document["warnings"]] == [*questionable]


@pytest.mark.parametrize("address", ["secret.example", "ftp://secret", "http://", "http://[secret"])
async def test_an_address_that_is_none_is_refused_and_not_repeated(
    command: Command, address: str
) -> None:
    ended = await command("check", "--service", address)
    assert ended.status == 2
    assert "give the service's address" in ended.err
    assert "secret" not in ended.err
    ended = await command("check", "--service", "http://user:secret@127.0.0.1:1/path")
    assert ended.status == 0
    assert "does not run here" in ended.out
    assert not {"secret", "127.0.0.1", "path"} & set(re.split(r"[^\w.]", ended.out))


SOUND, BROKEN = Finding("a", True, "is sound"), Finding("longer", False, "check X")
UNKNOWN = Finding("b", None, "not checked: Y")
FINDINGS = [SOUND, BROKEN, UNKNOWN]


def test_printed_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_report(FINDINGS, ["Z: unusual"], [SOUND], as_json=False) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok    a        is sound",
        "FAIL  longer   check X",
        "-     b        not checked: Y",
        "warn  warning  Z: unusual",
        "",
        "ok    a  is sound",
    ]


@pytest.mark.parametrize(("terminal", "no_color"), [(True, ""), (True, "1"), (False, "")])
def test_only_a_terminal_gets_colours(
    monkeypatch: pytest.MonkeyPatch, terminal: object, no_color: str
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    ours, theirs = pty.openpty() if terminal else os.pipe()
    with os.fdopen(ours, "rb", buffering=0) as reader, os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        print_report(FINDINGS, ["Z"], as_json=False)
        stream.flush()
        shown = b""
        while shown.count(b"\n") < len(FINDINGS) + 1:
            shown += reader.read(65536)
    lines = shown.decode().splitlines()
    if terminal and not no_color:
        marks = [("32", "ok  "), ("31", "FAIL"), ("2", "-   "), ("33", "warn")]
        for line, (code, mark) in zip(lines, marks, strict=True):
            assert line.startswith(f"\x1b[{code}m{mark}\x1b[0m  ")
    else:
        assert [line[:4] for line in lines] == ["ok  ", "FAIL", "-   ", "warn"]


@pytest.mark.parametrize(
    ("parts", "rules", "ok", "token_ok"),
    [
        ([SOUND], [BROKEN], False, False),
        ([BROKEN], [SOUND], False, True),
        ([SOUND, UNKNOWN], [SOUND], True, True),
        (FINDINGS, None, False, None),
    ],
)
def test_printed_document(
    capsys: pytest.CaptureFixture[str],
    parts: list[Finding],
    rules: list[Finding] | None,
    ok: object,
    token_ok: object,
) -> None:
    assert print_report(parts, ["Z"], rules, as_json=True) == (0 if ok else 1)

    def rows(kind: str, findings: list[Finding]) -> list[dict[str, object]]:
        return [{kind: each.name, "ok": each.ok, "details": each.details} for each in findings]

    document = {"ok": ok, "parts": rows("part", parts), "warnings": ["Z"]}
    token = {} if rules is None else {"token": {"ok": token_ok, "rules": rows("rule", rules)}}
    assert json.loads(capsys.readouterr().out) == document | token

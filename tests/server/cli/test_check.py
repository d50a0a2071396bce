"""What `check` finds of Vapi, and how it is reported; keys and Redis have a file of their own."""

import json
import sys

import pytest

from sandbox.vapi.behaviour import Behaviour, Fault
from server.cli.check import Finding, examine, report
from server.proof.public_jwks import public_jwk
from tests import pems
from tests.server.config.test_proof_key import PROOF
from tests.support import PRIVATE_KEY, make_settings
from tests.wire import vapi


@pytest.mark.parametrize(
    ("fault", "ok", "advice"),
    [
        (Behaviour(), True, "knows the assistant"),
        (Behaviour(Fault.STATUS, status=401), False, "VAPI_API_KEY and VAPI_ASSISTANT_ID"),
        (Behaviour(Fault.STATUS, status=404), False, "VAPI_API_KEY and VAPI_ASSISTANT_ID"),
        (Behaviour(Fault.STATUS, status=500), False, "VAPI_BASE_URL"),
        (Behaviour(Fault.HANG), False, "VAPI_BASE_URL"),
        (Behaviour(Fault.JUNK), False, "VAPI_BASE_URL"),
    ],
    ids=lambda value: f"{value.fault} {value.status}" if isinstance(value, Behaviour) else None,
)
async def test_vapi_is_asked_once_and_the_advice_names_where_to_look(
    fault: Behaviour, ok: object, advice: str
) -> None:
    async with vapi(fault) as stand_in:
        timeout = "0.1" if fault.fault is Fault.HANG else "2"
        settings = make_settings(
            VAPI_BASE_URL=stand_in.url, VAPI_CHECK_SECONDS="30", VAPI_TIMEOUT_SECONDS=timeout
        )
        findings = {finding.part: finding for finding in await examine(settings)}
        assert len(stand_in.requests) == 1
    assert findings["vapi"].ok is ok
    assert advice in findings["vapi"].details
    assert findings["configuration"].ok
    assert PRIVATE_KEY not in str(findings)


async def test_vapi_is_not_asked_when_that_is_turned_off() -> None:
    async with vapi() as stand_in:
        settings = make_settings(VAPI_BASE_URL=stand_in.url, VAPI_CHECK_SECONDS="0")
        findings = {finding.part: finding for finding in await examine(settings)}
        assert stand_in.requests == []
    assert findings["vapi"] == Finding("vapi", True, "not asked: VAPI_CHECK_SECONDS is 0")


FINDINGS = [Finding("a", True, "holds"), Finding("b", False, "does not: look at X")]


def test_people_get_a_line_for_each_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(FINDINGS, as_json=False) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok    a              holds",
        "FAIL  b              does not: look at X",
    ]


def test_a_terminal_gets_colours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert report(FINDINGS, as_json=False) == 1
    good, bad = capsys.readouterr().out.splitlines()
    assert good.startswith("\x1b[32mok  \x1b[0m  a")
    assert bad.startswith("\x1b[31mFAIL\x1b[0m  b")


def test_machines_get_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(FINDINGS[:1], as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "parts": [{"part": "a", "ok": True, "details": "holds"}],
    }


async def test_proof_key_is_reported_by_its_id() -> None:
    settings = make_settings(**PROOF)
    findings = {finding.part: finding for finding in await examine(settings)}
    key_id = public_jwk(pems.P256)["kid"]
    assert findings["proof"] == Finding(
        "proof", True, f"signed with key {key_id}; keys published: 1"
    )

"""The choice of an assistant and the consents, over sockets: the service, and mounted in a host."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from aiohttp import ClientSession, web

from rig.service import ASSISTANT_ID, PRIVATE_KEY, Answer, Service, claims, make_settings, running
from rig.service import sign as sign_token
from rig.vapi import vapi
from rig.waiting import eventually
from sandbox.vapi.behaviour import Behaviour, Fault
from server.app import mount
from server.config import Settings
from tests.conftest import AuditLines, Serve
from tests.pems import PROOF

EN, DE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
LIST = {"VAPI_ASSISTANTS": f"en:{EN}, de:{DE}"}
CLAIM = {**LIST, "VAPI_ASSISTANT_CLAIM": "app.assistants"}
TOKEN = {"VAPI_CREDENTIAL": "session_token"}
DENIED, INVALID = "ASSISTANT_NOT_ALLOWED", "INVALID_REQUEST"

GRANTS: dict[str, Any] = {
    "missing": ...,
    "string": "de",
    "list": ["de", "en"],
    "unknown names": ["fr", "it"],
    "unknown, then known": ["fr", "en"],
    "not strings": [1, None, {"de": 1}],
    "an object": {"de": True},
    "a number": 1,
}
BODIES: dict[str, Any] = {
    "absent": None,
    "empty": {},
    "de": {"assistant": "de"},
    "en": {"assistant": "en"},
    "unknown": {"assistant": "fr"},
    "malformed": {"assistant": "d e"},
    "null": {"assistant": None},
    "too long": {"assistant": "x" * 65},
    "not a string": {"assistant": ["de"]},
}
MAY = {"string": {"de"}, "list": {"de", "en"}, "unknown, then known": {"en"}}
FIRST = {"string": DE, "list": DE, "unknown, then known": EN}
IDS = {"de": DE, "en": EN}


def expected(grant: str, body: str, default: str, *, has_claim: bool) -> str:
    """Return the assistant id or the error code of the contract."""
    if body in {"absent", "empty"}:
        return (FIRST.get(grant) if has_claim else None) or default or DENIED
    if body in {"de", "en", "unknown"}:
        allowed = MAY.get(grant, set()) if has_claim else {"de", "en"}
        return IDS[body] if body in allowed else DENIED
    return INVALID


@asynccontextmanager
async def mounted(settings: Settings) -> AsyncIterator[Service]:
    """Run the endpoint inside a host application."""
    app = web.Application()
    mount(app, settings)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession() as client:
            yield Service(f"http://127.0.0.1:{runner.addresses[0][1]}", client, app)
    finally:
        await runner.cleanup()


def chosen(answer: Answer) -> str:
    """Return the assistant id, or the code of the error."""
    if answer.code:
        return answer.code
    data = answer.json["data"]
    issued = jwt.decode(data["apiKey"], PRIVATE_KEY, algorithms=["HS256"])
    proof = jwt.decode(data["patientProof"], options={"verify_signature": False})
    named = {data["assistantId"], proof["assistantId"]}
    assert named == set(issued["token"]["restrictions"]["allowedAssistantIds"])
    return str(data["assistantId"])


@pytest.mark.parametrize("has_claim", [True, False], ids=["claim", "no claim"])
@pytest.mark.parametrize("default", [ASSISTANT_ID, ""], ids=["default", "no default"])
@pytest.mark.parametrize("run", [running, mounted])
async def test_table_of_choices(run: Any, default: str, *, has_claim: bool) -> None:
    variables = {**(CLAIM if has_claim else LIST), **TOKEN, **PROOF, "RATE_LIMIT": "off"}
    wanted, found, refusals = {}, {}, set()
    async with run(make_settings(**variables, VAPI_ASSISTANT_ID=default)) as service:
        for grant, value in GRANTS.items():
            given = {} if value is ... else {"app": {"assistants": value}}
            token = sign_token(claims(**given))
            for name, body in BODIES.items():
                answer = await service.start(token, json=body)
                wanted[grant, name] = expected(grant, name, default, has_claim=has_claim)
                found[grant, name] = chosen(answer)
                if answer.code == DENIED:
                    refusals.add((answer.status, answer.body))
                if answer.code == INVALID:
                    assert answer.details.startswith("assistant must be")
    assert found == wanted
    assert len(refusals) == 1  # an assistant of others is answered like none


async def test_audit_line_names_the_assistant(serve: Serve, audit_lines: AuditLines) -> None:
    service = await serve(**LIST)
    await service.start(sign_token(), json={"assistant": "de"})
    await service.start(sign_token(), json={"assistant": "fr"})
    granted, refused = audit_lines()
    assert (granted["assistant_id"], refused["assistant_id"]) == (DE, None)
    assert (refused["code"], refused["reason"]) == (DENIED, "assistant")


async def test_without_the_list_the_body_and_the_claims_are_not_looked_at(service: Service) -> None:
    answer = await service.start(sign_token(), json={"assistant": 1, "consent": 1})
    assert answer.json["data"]["assistantId"] == ASSISTANT_ID


async def test_a_failing_assistant_refuses_only_its_own_sessions(serve: Serve) -> None:
    async with vapi() as stand_in:  # which knows only the default assistant
        service = await serve(
            VAPI_BASE_URL=stand_in.url, VAPI_CHECK_SECONDS="30", VAPI_ASSISTANTS=f"lost:{DE}"
        )
        answer = await service.start(sign_token(), json={"assistant": "lost"})
        assert (answer.code, answer.status) == ("VAPI_SESSION_FAILED", 503)
        assert (await service.start(sign_token())).status == 200
        ready = await service.ask("GET", "/readyz")
        assert (ready.status, ready.json["status"]) == (200, "degraded")
        assert ready.json["parts"]["vapi"] == "degraded"


async def test_starting_ends_when_one_assistant_is_accepted(serve: Serve) -> None:
    async with vapi(Behaviour(Fault.STATUS, status=404)) as stand_in:
        service = await serve(VAPI_BASE_URL=stand_in.url, VAPI_CHECK_SECONDS="0.1", **LIST)
        await service.start(sign_token(), json={"assistant": "de"})
        ready = await service.ask("GET", "/readyz")
        assert (ready.status, ready.json["status"]) == (503, "starting")
        stand_in.behave(Behaviour())

        async def is_ready() -> bool:
            return (await service.ask("GET", "/readyz")).status == 200

        await eventually(is_ready)  # the default assistant exists


REQUIRED = {"CONSENT_REQUIRED": "voice@2, recording@2026-01"}
BOTH = {"voice": "2", "recording": "2026-01"}


@pytest.mark.parametrize(
    ("consent", "missing"),
    [
        (BOTH, None),
        ({**BOTH, "more": "1"}, None),
        ({"voice": "2"}, "recording@2026-01"),
        ({"voice": "1", "recording": "2026-01"}, "voice@2"),
        ({}, "voice@2 recording@2026-01"),
        (None, INVALID),
        ("voice@2", INVALID),
        (["voice@2"], INVALID),
        ({"voice": 2}, INVALID),
        ({"vo ice": "2"}, INVALID),
        ({"voice": "2" * 65}, INVALID),
        ({str(number): "1" for number in range(17)}, INVALID),
    ],
)
async def test_consent_of_the_body(
    serve: Serve, audit_lines: AuditLines, consent: object, missing: str | None
) -> None:
    service = await serve(**REQUIRED, **PROOF)
    answer = await service.start(sign_token(), json={"consent": consent})
    (line,) = audit_lines()
    if missing is None:
        proof = answer.json["data"]["patientProof"]
        payload = jwt.decode(proof, options={"verify_signature": False})
        assert payload["consent"] == line["consent"] == BOTH
        return
    assert line["consent"] is None
    if missing == INVALID:
        assert (answer.status, answer.code) == (400, INVALID)
        assert answer.details.startswith("consent must")
    else:
        assert (answer.status, answer.code, answer.details) == (403, "CONSENT_REQUIRED", missing)
        assert line["reason"] == "consent"


@pytest.mark.parametrize(
    ("claim", "missing"),
    [
        (BOTH, None),
        (["recording@2026-01", "voice@1", "voice@2"], None),
        ({"voice": 2, "recording": "2026-01"}, "voice@2"),
        (["voice@2", 1, None], "recording@2026-01"),
        ("voice@2", "voice@2 recording@2026-01"),
        (..., "voice@2 recording@2026-01"),
        (None, "voice@2 recording@2026-01"),
    ],
)
async def test_consent_of_the_token(serve: Serve, claim: object, missing: str | None) -> None:
    service = await serve(**REQUIRED, JWT_CONSENT_CLAIM="consents")
    # The app's word does not count, and is not even looked at.
    for body in (None, {"consent": BOTH}, {"consent": 1}):
        answer = await service.start(sign_token(claims(consents=claim)), json=body)
        assert (answer.details if answer.code else None) == missing


async def test_order_of_checks(serve: Serve) -> None:
    service = await serve(**LIST, **REQUIRED, SESSIONS_PAUSED="true")
    bodies: list[tuple[dict[str, Any], str]] = [
        ({"patientContext": 1, "assistant": 1, "consent": 1}, "INVALID_PATIENT_CONTEXT"),
        ({"assistant": "fr", "consent": 1}, DENIED),
        ({"consent": {}}, "CONSENT_REQUIRED"),
        ({"consent": BOTH}, "VAPI_SESSION_FAILED"),
    ]
    for body, code in bodies:
        assert (await service.start(sign_token(), json=body)).code == code


async def test_largest_consent_fits_the_proof(serve: Serve) -> None:
    names = {f"{number:064d}": "v" * 64 for number in range(16)}
    required = ",".join(f"{name}@{version}" for name, version in names.items())
    service = await serve(CONSENT_REQUIRED=required, **PROOF)
    answer = await service.start(sign_token(), json={"consent": names})
    assert len(answer.json["data"]["patientProof"]) <= 3500

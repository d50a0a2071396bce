"""`check --token -`: each rule that a token meets or breaks, as the service decides it."""

import json
import sys
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path
from time import time
from typing import Any

import pytest

import server
from middlewares.authentication import MAX_TOKEN_BYTES
from rig.issuer import ISSUER, issuing, key
from rig.redis_server import RedisServer
from rig.service import ASSISTANT_ID, SECRET, claims, make_settings, sign
from server.cli.explain import explain
from server.cli.report import Finding
from tests import pems
from tests.conftest import Command, Serve
from tests.dpop import ACCEPT, REQUIRE, App
from tests.revocation_keys import patient_key, token_key

RULES = [
    "format",
    "type",
    "key found",
    "signature",
    "issuer",
    "audience",
    "claims",
    "dates",
    "patient id",
    "role",
    "scope",
    "revocation",
]
STRICT = {
    "JWT_ISSUER": "us",
    "JWT_AUDIENCE": "voice, other",
    "JWT_REQUIRED_SCOPE": "start",
    "JWT_REQUIRED_CLAIMS": "azp=voice|app",
    "JWT_MAX_LIFETIME_SECONDS": "7200",
}
SOUND = {"iss": "us", "aud": ["them", "voice"], "scope": "start more", "azp": "app"}


def signed(secret: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    """Sign claims that the strict settings accept, with these changes."""
    return sign(claims(**{**SOUND, **changes}), secret, algorithm)


def broken(findings: list[Finding]) -> dict[str, str]:
    """Return the broken rules with their details."""
    return {each.name: each.details for each in findings if each.ok is False}


async def check(token: str, **variables: str) -> list[Finding]:
    return await explain(make_settings(**variables), token)


NOW = int(time())
TOKENS: list[tuple[str, str, set[str]]] = [
    ("sound", signed(), set()),
    ("issuer", signed(iss="them"), {"issuer"}),
    ("no issuer", signed(iss=...), {"issuer"}),
    ("audience", signed(aud="them"), {"audience"}),
    ("no audience", signed(aud=...), {"audience"}),
    ("expired", signed(exp=NOW - 60, iat=NOW - 120), {"dates"}),
    ("not yet valid", signed(nbf=NOW + 600), {"dates"}),
    ("no exp", signed(exp=...), {"dates"}),
    ("exp is not a number", signed(exp="soon"), {"dates"}),
    ("lifetime", signed(exp=NOW + 86400), {"dates"}),
    ("no iat", signed(iat=...), {"dates"}),
    ("patient id", signed(id="pt 1"), {"patient id"}),
    ("no patient id", signed(id=...), {"patient id"}),
    ("role", signed(type="doctor"), {"role"}),
    ("no role", signed(type=...), {"role"}),
    ("scope", signed(scope="stop"), {"scope"}),
    ("required claim", signed(azp="chat"), {"claims"}),
    ("token id", signed(jti=["x"]), {"revocation"}),
    ("signature", signed(secret="x" * 32), {"signature"}),
    ("algorithm", signed(algorithm="HS512"), {"key found"}),
    ("critical extension", sign(claims(**SOUND), crit=["x"]), {"format"}),
    ("proof", sign(claims(**SOUND), typ="patient-proof+jwt"), {"type"}),
    (
        "everything",
        sign({"iss": "them"}, "x" * 32),
        {"signature", "issuer", "audience", "claims", "dates", "patient id", "role", "scope"},
    ),
    ("payload is not an object", sign(b"[]"), {"signature"}),
    ("two segments", "a.b", {"format"}),
    ("not base64", "ä.b.c", {"format"}),
    ("empty", "", {"format"}),
    ("too long", signed(padding="x" * MAX_TOKEN_BYTES), {"format"}),
]


async def test_each_rule_is_reported_and_the_service_agrees(serve: Serve) -> None:
    service = await serve(**STRICT)
    for name, token, expected in TOKENS:
        findings = await check(token, **STRICT)
        assert [each.name for each in findings] == RULES
        assert broken(findings).keys() == expected, name
        answer = await service.start(token.encode("ascii", "replace").decode())
        assert (answer.status == 200) == (not expected), name
        # The service reports the first broken rule, in its own order.
        codes = {details.partition(": ")[0] for details in broken(findings).values()}
        assert not expected or answer.code in codes, name


async def test_rules_that_are_not_set_are_not_checked() -> None:
    findings = {each.name: each for each in await check(sign())}
    for name, variable in (
        ("issuer", "JWT_ISSUER"),
        ("audience", "JWT_AUDIENCE"),
        ("scope", "JWT_REQUIRED_SCOPE"),
        ("revocation", "REDIS_URL"),
    ):
        assert findings[name].ok is None
        assert findings[name].details.startswith(f"not checked: {variable} is not set")


async def test_what_cannot_be_read_is_not_checked() -> None:
    findings = await check("a.b", **STRICT)
    assert {each.ok for each in findings[1:]} == {None}
    findings = await check(sign(b"[]"), **STRICT)
    assert {each.ok for each in findings[4:]} == {None}


GRANTS = {
    "VAPI_ASSISTANT_ID": "",
    "VAPI_ASSISTANTS": f"nurse:{ASSISTANT_ID}",
    "VAPI_ASSISTANT_CLAIM": "assistants",
    "CONSENT_REQUIRED": "recording@1",
    "JWT_CONSENT_CLAIM": "consents",
}


@pytest.mark.parametrize(
    ("granted", "code"),
    [
        ({"assistants": "nurse", "consents": ["recording@1"]}, None),
        ({"assistants": "other", "consents": ["recording@1"]}, "ASSISTANT_NOT_ALLOWED"),
        ({"assistants": ["nurse"], "consents": {"recording": "2"}}, "CONSENT_REQUIRED"),
    ],
)
async def test_what_a_token_grants_is_a_rule(
    serve: Serve, granted: dict[str, object], code: str | None
) -> None:
    token = sign(claims(**granted))
    findings = await check(token, **GRANTS)
    assert [each.name for each in findings] == [*RULES, "grants"]
    assert findings[-1].ok is (code is None)
    assert (await (await serve(**GRANTS)).start(token)).code == code


@pytest.mark.parametrize("kept", ["VAPI_ASSISTANT_CLAIM", "JWT_CONSENT_CLAIM"])
async def test_each_claim_counts_alone(kept: str) -> None:
    others = {"VAPI_ASSISTANT_CLAIM": "", "JWT_CONSENT_CLAIM": ""}
    del others[kept]
    assert (await check(sign(), **{**GRANTS, **others}))[-1].ok is False
    granted = sign(claims(assistants="nurse", consents=["recording@1"]))
    assert (await check(granted, **{**GRANTS, **others}))[-1].ok is True


MARK = "M4RKED"


async def test_details_name_claims_and_contain_no_values() -> None:
    odd_names = {"odd\x1b[31m\u009b\n": MARK, "n" * 90: 1}
    marked = dict.fromkeys(("id", "type", "iss", "aud", "scope", "sub"), f"{MARK} value")
    token = sign({**claims(exp=1234567890), **marked, **odd_names})
    details = " ".join(broken(await check(token, **STRICT)).values())
    assert MARK not in details
    assert "1234567890" not in details
    assert details.isascii()
    assert details.isprintable()
    assert "odd\\x1b[31m\\x9b\\n" in details
    assert f"{'n' * 40}," in details
    assert "n" * 41 not in details
    assert "JWT_PATIENT_ID_CLAIM" in details
    many = broken(await check(sign(claims(id=...) | {f"claim{n:03}": 1 for n in range(100)})))
    assert many["patient id"].endswith(", …")
    assert len(many["patient id"]) < 1000
    few = broken(await check(sign({**dict.fromkeys("abcdefghijklmnopqr", 1), "exp": 1, "iat": 1})))
    assert few["patient id"].endswith("p, q, r")


async def test_the_documented_report_is_the_real_one() -> None:
    page = (Path(server.__file__).parents[1] / "docs" / "authentication.md").read_text()
    documented = page.split("-m server check --token -")[1].split("```text\n")[1].split("```")[0]
    settings = {"JWT_ISSUER": "https://backend.example", "JWT_AUDIENCE": "voice"}
    token = sign(claims(sub="pt_1", id=..., iss="https://backend.example/", aud="voice"))
    lines = [(each.name, each.details) for each in await check(token, **settings)]
    assert [(line[6:16].strip(), line[18:]) for line in documented.splitlines()] == lines


async def test_every_key_source() -> None:
    pem = pems.public(pems.P256)
    token = sign(claims(), pems.P256, "ES256")
    assert not broken(await check(token, JWT_SECRET="", JWT_PUBLIC_KEY=pem))
    found = broken(await check(sign(), JWT_SECRET="", JWT_PUBLIC_KEY=pem))
    assert "JWT_PUBLIC_KEY" in found["key found"]
    async with issuing(key("one"), key("two")) as issuer:
        assert not broken(await check(issuer.keys[1].token(), **issuer.variables))
        unknown = broken(await check(key("three").token(), **issuer.variables))
        assert unknown.keys() == {"key found"}
        assert unknown["key found"].startswith("AUTH_TOKEN_INVALID")
        assert "JWT_JWKS_URL" in unknown["key found"]
        assert broken(await check(key("one").token(), **issuer.variables)).keys() == {"signature"}
        beside = {**issuer.variables, "JWT_SECRET": SECRET, "JWT_ALGORITHMS": "ES256,HS256"}
        assert not broken(await check(issuer.keys[0].token(), **beside))
        assert not broken(await check(sign(claims(iss=ISSUER)), **beside))
        forged = broken(await check(sign(claims(iss=ISSUER), "x" * 32), **beside))
        assert "not in JWT_SECRET" in forged["signature"]
        issuer.keys.append(key("next", "ES384"))
        unused = broken(await check(issuer.keys[2].token(), **beside))["key found"]
        assert "published and not used here: no algorithm of it is one of JWT_ALGORITHMS" in unused
        await issuer.go_down()
        down = broken(await check(issuer.keys[0].token(), **issuer.variables))
        assert down.keys() == {"key found"}
        assert down["key found"].startswith("AUTH_UNAVAILABLE")


async def test_the_issuer_of_a_jwks_is_a_rule_of_its_own() -> None:
    async with issuing() as issuer:
        token = issuer.keys[0].token(claims(iss=ISSUER.rstrip("/")))
        found = broken(await check(token, **issuer.variables))
    assert found.keys() == {"issuer"}
    assert "the slash at the end" in found["issuer"]


async def test_role_is_not_checked_when_every_user_is_a_patient() -> None:
    findings = await check(sign(claims(type=...)), JWT_ROLE_CLAIM="off")
    details = "not checked: JWT_ROLE_CLAIM is off, so every user of the issuer is a patient"
    assert Finding("role", None, details) in findings
    assert not broken(findings)


@pytest.mark.redis
async def test_revocation_is_looked_up(redis_server: RedisServer) -> None:
    for name, revoked in (("jti", token_key("t1")), ("patient", patient_key("pt_1"))):
        token = sign(claims(jti="t1"))
        assert not broken(await check(token, REDIS_URL=redis_server.url)), name
        await redis_server.execute("SET", revoked, "1")
        found = broken(await check(token, REDIS_URL=redis_server.url))
        assert found.keys() == {"revocation"}
        assert found["revocation"].startswith("AUTH_TOKEN_REVOKED")
        await redis_server.execute("DEL", revoked)


@pytest.mark.redis
async def test_without_a_verdict_of_redis_the_service_decides(redis_server: RedisServer) -> None:
    await redis_server.stop()
    token, variables = sign(claims(jti="t1")), {"REDIS_URL": redis_server.url}
    refused = broken(await check(token, **variables, REDIS_FAILURE="refuse"))
    assert refused["revocation"].startswith("AUTH_UNAVAILABLE")
    findings = await check(token, **variables, REDIS_FAILURE="serve")
    assert findings[-1] == Finding(
        "revocation", None, "not checked: Redis is not available, and REDIS_FAILURE is serve"
    )


# --- proofs of possession ---------------------------------------------------------------------

APP = App()
BOUND = sign(claims(cnf=APP.confirmation))
NOT_BOUND = "AUTH_TOKEN_INVALID: The token is not bound to a key"


INVALID_PROOF = "AUTH_TOKEN_INVALID: The DPoP proof"


async def test_a_proof_is_a_rule() -> None:
    cases: list[tuple[dict[str, str], str, str | None, object, str]] = [
        (ACCEPT, BOUND, APP.proof(BOUND), True, "the proof is valid for POST at PUBLIC_URL"),
        (REQUIRE, BOUND, APP.proof(BOUND), True, "the proof is valid"),
        (REQUIRE, BOUND, None, None, "not checked: give the proof of a request with --dpop FILE"),
        (ACCEPT, sign(), None, True, "the token is not bound to a key (cnf.jkt)"),
        (ACCEPT, sign(), APP.proof(sign()), False, NOT_BOUND),
        (REQUIRE, sign(), None, False, NOT_BOUND),
        (ACCEPT, BOUND, APP.proof(sign()), False, f"{INVALID_PROOF} is for anot"),
        (ACCEPT, BOUND, APP.proof(BOUND, htm="GET"), False, INVALID_PROOF),
        (ACCEPT, BOUND, APP.proof(BOUND, iat=1), False, f"{INVALID_PROOF} has a"),
        (ACCEPT, BOUND, App().proof(BOUND), False, f"{INVALID_PROOF} has anoth"),
        (ACCEPT, BOUND, "", False, f"{INVALID_PROOF} is not a compact JWS"),
        (ACCEPT, "x", "x", None, "not checked: the token is not a compact JWS"),
        ({}, BOUND, APP.proof(BOUND), None, "not checked: JWT_DPOP is off"),
    ]
    for settings, token, proof, ok, details in cases:
        findings = await explain(make_settings(**settings), token, proof)
        assert [each.name for each in findings] == [*RULES, "dpop"]
        assert findings[-1].ok is ok, details
        assert findings[-1].details.startswith(details)


@pytest.mark.redis
async def test_a_proof_that_was_checked_can_still_be_used(
    serve: Serve, redis_server: RedisServer
) -> None:
    settings = {**REQUIRE, "REDIS_URL": redis_server.url}
    proof = APP.proof(BOUND)
    findings = await explain(make_settings(**settings), BOUND, proof)
    assert findings[-1].ok
    running = await serve(**settings)
    assert (await running.start(headers=APP.headers(BOUND, proof))).status == 200


# --- the command -----------------------------------------------------------------------------

Paste = Callable[[bytes], BytesIO]


@pytest.fixture
def paste(monkeypatch: pytest.MonkeyPatch) -> Paste:
    """Return what replaces standard input by these bytes."""

    def replace(content: bytes) -> BytesIO:
        stream = BytesIO(content)
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(stream))
        return stream

    return replace


async def test_the_token_may_be_pasted_with_its_scheme_and_white_space(
    command: Command, paste: Paste
) -> None:
    for form in (
        "{}",
        "{}\n",
        "\r\n {} \r\n",
        "Bearer {}",
        "bearer   {}\n",
        "Authorization: Bearer {}\n",
        "DPoP {}",
        "authorization:bearer {}",
    ):
        paste(form.format(sign()).encode())
        ended = await command("check", "--token", "-", "--json", JWT_AUDIANCE="voice")
        document = json.loads(ended.out)
        assert document.keys() == {"ok", "parts", "warnings", "token"}
        assert (ended.status, document["ok"], document["token"]["ok"]) == (0, True, True)
        rules = document["token"]["rules"]
        assert [rule["rule"] for rule in rules] == RULES
        assert [rule["ok"] for rule in rules][:3] == [True, True, True]
        assert document["warnings"] == ["JWT_AUDIANCE: unknown; did you mean JWT_AUDIENCE?"]


async def test_input_that_is_not_a_token_breaks_the_format(command: Command, paste: Paste) -> None:
    for content in (b"", b"\n", b"\xff\x00\xfe", b"Bearer", b"x" * 10_000_000):
        stream = paste(content)
        ended = await command("check", "--token", "-")
        assert (ended.status, ended.err) == (1, "")
        assert "\n\nFAIL  format      AUTH_TOKEN_INVALID: " in ended.out
        assert stream.tell() < 100_000


async def test_a_token_in_the_arguments_is_refused_and_not_repeated(command: Command) -> None:
    ended = await command("check", "--token", MARK)
    assert ended.status == 2
    assert "write the token to standard input" in ended.err
    assert MARK not in ended.err


async def test_a_proof_is_read_from_a_file(command: Command, paste: Paste, tmp_path: Path) -> None:
    path = tmp_path / "proof"
    for form in ("{}", "{}\n", "DPoP: {}\n"):
        paste(BOUND.encode())
        path.write_text(form.format(APP.proof(BOUND)))
        arguments = ("--token", "-", "--dpop", str(path), "--json")
        ended = await command("check", *arguments, **REQUIRE)
        assert ended.status == 0
        assert json.loads(ended.out)["token"]["rules"][-1]["ok"] is True


async def test_a_proof_that_cannot_be_read(command: Command) -> None:
    ended = await command("check", "--dpop", "x")
    assert (ended.status, ended.err) == (2, "--dpop needs --token\n")
    for path, reason in (
        ("/nonexistent", "No such file or directory"),
        ("a\0b", "not the path of a file"),
    ):
        ended = await command("check", "--token", "-", "--dpop", path)
        text = f"The proof of --dpop cannot be read: {reason}\n"
        assert (ended.status, ended.err) == (1, text)

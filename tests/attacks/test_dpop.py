"""DPoP on the wire: which requests are accepted, and what a forged proof gets."""

import base64
from collections.abc import Callable
from time import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from multidict import CIMultiDict

from rig.rsa_keys import key_of, rsa_key
from rig.service import PATH, Answer, Service, claims, sign
from tests.conftest import AuditLines, Serve
from tests.dpop import (
    ACCEPT,
    ALGORITHMS,
    CHALLENGE,
    PUBLIC_URL,
    REQUIRE,
    App,
    base64url,
    segment,
)

INVALID_PROOF = f'DPoP {CHALLENGE}, error="invalid_dpop_proof", {ALGORITHMS}'
INVALID_TOKEN = f'DPoP {CHALLENGE}, error="invalid_token", {ALGORITHMS}'
APP = App()
OTHER = App()


@pytest.fixture
async def service(serve: Serve) -> Service:
    return await serve(**ACCEPT, RATE_LIMIT="off")


def challenge(answer: Answer) -> str | None:
    values = answer.response.headers.getall("WWW-Authenticate", [])
    assert len(values) <= 1
    return values[0] if values else None


# --- accepted -----------------------------------------------------------------------------------


APPS = [
    App(),
    App("RS256", rsa_key()),
    App("RS256", rsa_key(bits=4096)),
    App("EdDSA", ed25519.Ed25519PrivateKey.generate()),
]


@pytest.mark.parametrize("app", APPS, ids=["ES256", "RS256", "RS256-4096", "EdDSA"])
async def test_a_proof_of_each_algorithm_is_accepted(service: Service, app: App) -> None:
    token = app.token()
    answer = await service.start(headers=app.headers(token))
    assert answer.status == 200, answer.body
    assert answer.json["data"]["patientContext"]["id"] == "pt_1"


async def test_a_token_can_be_used_again_with_a_new_proof(service: Service) -> None:
    token = APP.token()
    for _ in range(3):
        assert (await service.start(headers=APP.headers(token))).status == 200


NOW = time()
GOOD: dict[str, dict[str, Any]] = {
    "typ as a media type": {"header": {"typ": "application/DPoP+JWT"}},
    "htu in upper case": {"htu": "HTTPS://VOICE.Clinic.Example" + PATH},
    "htu with the default port": {"htu": f"{PUBLIC_URL}:443{PATH}"},
    "htu with escapes": {"htu": PUBLIC_URL + PATH.replace("start", "%73t%61rt")},
    "htu with dot segments": {"htu": f"{PUBLIC_URL}/x/.././{PATH[1:]}"},
    "htu with query and fragment": {"htu": f"{PUBLIC_URL}{PATH}?a=b#c"},
    "iat early": {"iat": NOW - 50},
    "iat late": {"iat": int(NOW) + 58},
    "longest jti": {"jti": "j" * 256},
    "jti of any text": {"jti": "é \n\U0001f600"},
    "further claims": {"nonce": "n", "exp": 1, "aud": ["x"]},
}


@pytest.mark.parametrize("name", GOOD)
async def test_variants_of_a_proof_are_accepted(service: Service, name: str) -> None:
    token, changes = APP.token(), dict(GOOD[name])
    if name.startswith("iat"):
        changes["iat"] += time() - NOW
    proof = APP.proof(token, changes.pop("header", None), **changes)
    answer = await service.start(headers=APP.headers(token, proof))
    assert answer.status == 200, answer.body


@pytest.mark.parametrize("scheme", ["dpop", "DPOP", "DPoP  "])
async def test_the_scheme_is_case_insensitive(service: Service, scheme: str) -> None:
    token = APP.token()
    headers = {**APP.headers(token), "Authorization": f"{scheme} {token}"}
    assert (await service.start(headers=headers)).status == 200


@pytest.mark.parametrize("htu", [f"https://a.example/voice{PATH}", f"https://b.example:8443{PATH}"])
async def test_several_addresses_with_prefix_and_trailing_slash(serve: Serve, htu: str) -> None:
    urls = "https://a.example/voice/, https://b.example:8443"
    service = await serve(**{**ACCEPT, "PUBLIC_URL": urls})
    token = APP.token()
    proof = APP.proof(token, htu=htu)
    assert (await service.start(headers=APP.headers(token, proof))).status == 200


# --- forged -------------------------------------------------------------------------------------


def tampered(token: str) -> str:
    """Change the claims and keep the signature."""
    header, _, signature = APP.proof(token).split(".")
    return f"{header}.{APP.proof(token).split('.')[1]}.{signature}"


def uncanonical(token: str) -> str:
    head, _, signature = APP.proof(token).rpartition(".")
    return f"{head}.{signature[:-1]}{'B' if signature[-1] == 'A' else chr(ord(signature[-1]) + 1)}"


def symmetric(token: str) -> str:
    jwk = {"kty": "oct", "k": base64url(b"k" * 32)}
    return App("HS256", _Secret()).proof(token, {"jwk": jwk}, signer=b"k" * 32)


class _Secret:
    def public_key(self) -> bytes:
        return b"k" * 32


def private_jwk(app: App) -> dict[str, Any]:
    made: dict[str, Any] = app._implementation.to_jwk(app.key, as_dict=True)
    return made


def padded(app: App) -> dict[str, str]:
    x = base64.urlsafe_b64decode(app.jwk["x"] + "=")
    return {**app.jwk, "x": base64url(b"\x00" + x)}


SMALL_RSA = App("RS256", rsa_key(bits=1024))
LARGE_RSA = App("RS256", key_of(2**2203 - 1, 2**2281 - 1))
P384 = App("ES384", ec.generate_private_key(ec.SECP384R1()))

FORGED: dict[str, Callable[[str], str]] = {
    "no JWS": lambda _: "x",
    "two segments": lambda token: APP.proof(token).rpartition(".")[0],
    "a list of two": lambda token: f"{APP.proof(token)}, {APP.proof(token)}",
    "header is no JSON": lambda token: "x." + APP.proof(token).partition(".")[2],
    "header is deep": lambda token: (
        f"{base64url(b'[' * 5000)}.{APP.proof(token).partition('.')[2]}"
    ),
    "no typ": lambda token: APP.proof(token, {"typ": ...}),
    "typ of a token": lambda token: APP.proof(token, {"typ": "JWT"}),
    "alg none": lambda token: APP.proof(token, {"alg": "none"}),
    "alg of another kind": lambda token: APP.proof(token, {"alg": "RS256"}),
    "alg that is not accepted": P384.proof,
    "symmetric": symmetric,
    "symmetric with the public key": lambda token: APP.proof(token, {"alg": "HS256"}),
    "no jwk": lambda token: APP.proof(token, {"jwk": ...}),
    "jwk is a string": lambda token: APP.proof(token, {"jwk": "x"}),
    "private jwk": lambda token: APP.proof(token, {"jwk": private_jwk(APP)}),
    "private member null": lambda token: APP.proof(token, {"jwk": {**APP.jwk, "d": None}}),
    "another curve": lambda token: APP.proof(token, {"jwk": {**APP.jwk, "crv": "P-384"}}),
    "point not on the curve": lambda token: APP.proof(
        token, {"jwk": {**APP.jwk, "y": APP.jwk["x"]}}
    ),
    "padded coordinate": lambda token: APP.proof(token, {"jwk": padded(APP)}),
    "another key": OTHER.proof,
    "key of the token, signature of another": lambda token: APP.proof(token, signer=OTHER.key),
    "only kid": lambda token: APP.proof(token, {"jwk": ..., "kid": APP.confirmation["jkt"]}),
    "crit": lambda token: APP.proof(token, {"crit": ["exp"]}),
    "b64": lambda token: APP.proof(token, {"b64": True}),
    "changed claims": tampered,
    "signature with unused bits": uncanonical,
    "claims are a list": lambda token: _with_claims(token, []),
    "no htm": lambda token: APP.proof(token, htm=...),
    "another method": lambda token: APP.proof(token, htm="GET"),
    "method in lower case": lambda token: APP.proof(token, htm="post"),
    "no htu": lambda token: APP.proof(token, htu=...),
    "htu is a path": lambda token: APP.proof(token, htu=PATH),
    "another host": lambda token: APP.proof(token, htu="https://evil.example" + PATH),
    "another scheme": lambda token: APP.proof(token, htu="http://voice.clinic.example" + PATH),
    "another port": lambda token: APP.proof(token, htu=f"{PUBLIC_URL}:8443{PATH}"),
    "another path": lambda token: APP.proof(token, htu=f"{PUBLIC_URL}{PATH}/"),
    "path in another case": lambda token: APP.proof(token, htu=PUBLIC_URL + PATH.upper()),
    "user in htu": lambda token: APP.proof(token, htu=f"https://a@voice.clinic.example{PATH}"),
    "escaped slash": lambda token: APP.proof(
        token, htu=f"{PUBLIC_URL}/api%2Fv1/sessions/vapi/start"
    ),
    "no iat": lambda token: APP.proof(token, iat=...),
    "iat too old": lambda token: APP.proof(token, iat=int(time()) - 62),
    "iat in the future": lambda token: APP.proof(token, iat=int(time()) + 63),
    "iat in milliseconds": lambda token: APP.proof(token, iat=int(time() * 1000)),
    "iat is a string": lambda token: APP.proof(token, iat=str(int(time()))),
    "iat is a boolean": lambda token: APP.proof(token, iat=True),
    "iat is huge": lambda token: APP.proof(token, iat=10**400),
    "no ath": lambda token: APP.proof(token, ath=...),
    "ath of another token": lambda _: APP.proof(APP.token(jti="another")),
    "ath in hex": lambda token: APP.proof(token, ath="00" * 32),
    "no jti": lambda token: APP.proof(token, jti=...),
    "empty jti": lambda token: APP.proof(token, jti=""),
    "jti too long": lambda token: APP.proof(token, jti="j" * 257),
    "jti is a number": lambda token: APP.proof(token, jti=1),
}


def _with_claims(token: str, payload: object) -> str:
    header = APP.proof(token).partition(".")[0]
    signing_input = f"{header}.{segment(payload)}"
    signature = APP._implementation.sign(signing_input.encode(), APP.key)
    return f"{signing_input}.{base64url(signature)}"


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_proof_is_rejected(
    service: Service, name: str, audit_lines: AuditLines
) -> None:
    token = APP.token()
    answer = await service.start(headers=APP.headers(token, FORGED[name](token)))
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_INVALID"), answer.body
    assert challenge(answer) == INVALID_PROOF
    assert answer.details.startswith("The DPoP proof ")
    (line,) = audit_lines()
    assert (line["reason"], line["patient"]) == ("dpop", None)


@pytest.mark.parametrize(
    "app",
    [
        SMALL_RSA,
        LARGE_RSA,
        App("ES384", ec.generate_private_key(ec.SECP384R1())),
        App("PS256", rsa_key()),
    ],
    ids=["RSA of 1,024 bits", "RSA of 4,104 bits", "P-384", "PS256"],
)
async def test_a_key_that_proofs_must_not_have(service: Service, app: App) -> None:
    token = app.token()
    answer = await service.start(headers=app.headers(token))
    assert challenge(answer) == INVALID_PROOF


async def test_an_rsa_key_with_other_numbers(service: Service) -> None:
    app = App("RS256", rsa_key())
    for change in ({"e": base64url(b"\0\1\0\1")}, {"e": base64url(b"\x01" * 9)}, {"n": ""}):
        changed = App("RS256", rsa_key())
        changed.jwk = {**app.jwk, **change}
        token = changed.token()
        assert challenge(await service.start(headers=changed.headers(token))) == INVALID_PROOF


async def test_the_details_of_a_wrong_clock_name_the_date(service: Service) -> None:
    token = APP.token()
    answer = await service.start(headers=APP.headers(token, APP.proof(token, iat=1)))
    assert answer.details == (
        "The DPoP proof has an iat that is not within 60 s of the server's time, which is in the "
        "Date header of this response"
    )
    assert "Date" in answer.response.headers


@pytest.mark.parametrize("count", [0, 2])
async def test_exactly_one_proof(service: Service, count: int) -> None:
    token = APP.token()
    headers = CIMultiDict([("Authorization", f"DPoP {token}")])
    for _ in range(count):
        headers.add("DPoP", APP.proof(token))
    answer = await service.ask("POST", PATH, headers=headers)
    assert answer.code == "AUTH_TOKEN_INVALID"
    assert challenge(answer) == INVALID_PROOF


async def test_a_proof_is_accepted_once(service: Service) -> None:
    token = APP.token()
    headers = APP.headers(token)
    assert (await service.start(headers=headers)).status == 200
    answer = await service.start(headers=headers)
    assert (answer.code, challenge(answer)) == ("AUTH_TOKEN_INVALID", INVALID_PROOF)
    assert "used before (jti)" in answer.details


async def test_the_same_jti_of_another_key_is_another_proof(service: Service) -> None:
    for app in (APP, OTHER):
        token = app.token()
        headers = app.headers(token, app.proof(token, jti="same"))
        assert (await service.start(headers=headers)).status == 200


async def test_a_faulty_proof_does_not_use_the_jti(service: Service) -> None:
    token = APP.token()
    faulty = APP.proof(token, jti="kept", ath="x")
    assert (await service.start(headers=APP.headers(token, faulty))).status == 401
    proof = APP.proof(token, jti="kept")
    assert (await service.start(headers=APP.headers(token, proof))).status == 200


# --- schemes and challenges ---------------------------------------------------------------------


BEARER = f"Bearer {CHALLENGE}"
DPOP = f"DPoP {CHALLENGE}"
EXPIRED = {"exp": 1, "iat": 0}
PLAIN = sign()

CHALLENGES: list[tuple[str, dict[str, str], dict[str, str], str | None, str | None]] = [
    ("nothing", ACCEPT, {}, "AUTH_TOKEN_MISSING", f"{BEARER}, {DPOP}, {ALGORITHMS}"),
    ("nothing", REQUIRE, {}, "AUTH_TOKEN_MISSING", f"{DPOP}, {ALGORITHMS}"),
    ("plain, Bearer", ACCEPT, {"Authorization": f"Bearer {PLAIN}"}, None, None),
    (
        "plain, Bearer",
        REQUIRE,
        {"Authorization": f"Bearer {PLAIN}"},
        "AUTH_TOKEN_INVALID",
        f'{BEARER}, error="invalid_token"',
    ),
    ("plain, DPoP", ACCEPT, APP.headers(PLAIN), "AUTH_TOKEN_INVALID", INVALID_TOKEN),
    ("plain, DPoP", REQUIRE, APP.headers(PLAIN), "AUTH_TOKEN_INVALID", INVALID_TOKEN),
    (
        "bound, Bearer",
        ACCEPT,
        {**APP.headers(APP.token()), "Authorization": f"Bearer {APP.token()}"},
        "AUTH_TOKEN_INVALID",
        f'{BEARER}, error="invalid_token"',
    ),
    (
        "malformed jkt, Bearer",
        ACCEPT,
        {"Authorization": f"Bearer {sign(claims(cnf={'jkt': 1}))}"},
        "AUTH_TOKEN_INVALID",
        f'{BEARER}, error="invalid_token"',
    ),
    (
        "certificate, Bearer",
        ACCEPT,
        {"Authorization": f"Bearer {sign(claims(cnf={'x5t#S256': 'x'}))}"},
        None,
        None,
    ),
    (
        "expired, DPoP",
        ACCEPT,
        APP.headers(APP.token(**EXPIRED), "x"),
        "AUTH_TOKEN_EXPIRED",
        INVALID_TOKEN,
    ),
    (
        "expired, Bearer",
        ACCEPT,
        {"Authorization": f"Bearer {sign(claims(**EXPIRED))}"},
        "AUTH_TOKEN_EXPIRED",
        f'{BEARER}, error="invalid_token"',
    ),
    ("no JWT", REQUIRE, {"Authorization": "DPoP x"}, "AUTH_TOKEN_INVALID", INVALID_TOKEN),
    (
        "Basic",
        REQUIRE,
        {"Authorization": "Basic eDp5"},
        "AUTH_TOKEN_INVALID",
        INVALID_TOKEN,
    ),
    (
        "Basic",
        ACCEPT,
        {"Authorization": "Basic eDp5"},
        "AUTH_TOKEN_INVALID",
        f'{BEARER}, error="invalid_token", {INVALID_TOKEN}',
    ),
]


@pytest.mark.parametrize(
    ("settings", "headers", "code", "expected"),
    [row[1:] for row in CHALLENGES],
    ids=[f"{row[0]}-{row[1]['JWT_DPOP']}" for row in CHALLENGES],
)
async def test_challenges(
    serve: Serve,
    settings: dict[str, str],
    headers: dict[str, str],
    code: str | None,
    expected: str | None,
) -> None:
    service = await serve(**settings)
    answer = await service.start(headers=headers)
    assert (answer.code, challenge(answer)) == (code, expected), answer.body


async def test_the_challenge_of_a_missing_scope(serve: Serve) -> None:
    service = await serve(**ACCEPT, JWT_REQUIRED_SCOPE="voice")
    answer = await service.start(headers=APP.headers(APP.token()))
    expected = f'DPoP {CHALLENGE}, error="insufficient_scope", {ALGORITHMS}'
    assert (answer.code, challenge(answer)) == ("INSUFFICIENT_SCOPE", expected)


async def test_other_errors_have_no_challenge(service: Service) -> None:
    token = APP.token(type="doctor")
    answer = await service.start(headers=APP.headers(token))
    assert (answer.code, challenge(answer)) == ("FORBIDDEN", None)
    headers = CIMultiDict([("Authorization", "DPoP x"), ("Authorization", "DPoP y")])
    answer = await service.ask("POST", PATH, headers=headers)
    assert (answer.code, challenge(answer)) == ("INVALID_REQUEST", None)


@pytest.mark.parametrize("mode", ["off", "accept"])
async def test_preflights_allow_proofs_only_when_they_are_read(serve: Serve, mode: str) -> None:
    origin = "https://app.example"
    service = await serve(**{**ACCEPT, "JWT_DPOP": mode}, CORS_ALLOWED_ORIGINS=origin)
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answer = await service.ask("OPTIONS", PATH, headers=asked)
    allowed = answer.response.headers["Access-Control-Allow-Headers"].split(", ")
    answer = await service.ask("POST", PATH, headers={"Origin": origin})
    exposed = answer.response.headers["Access-Control-Expose-Headers"].split(", ")
    assert ("DPoP" in allowed, "Date" in exposed) == (mode == "accept",) * 2
    assert "WWW-Authenticate" in exposed


async def test_off_ignores_the_binding_and_the_scheme(serve: Serve) -> None:
    service = await serve()
    token = APP.token()
    assert (await service.start(token)).status == 200
    answer = await service.start(headers=APP.headers(token))
    assert challenge(answer) == f'{BEARER}, error="invalid_token"'
    assert "DPoP" not in answer.details

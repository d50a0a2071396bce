"""`python -m server token`: the configuration that issued a token accepts it."""

from time import time
from typing import Any

import jwt
import pytest

from rig.service import ASSISTANT_ID, SECRET, make_settings
from server.cli.token import issue_test_token
from tests.conftest import Command, Serve
from tests.table import NOWHERE

NOW = 1_800_000_000.5
TAKEN = ("exp", "type", "iss")


def payload(token: str) -> dict[str, object]:
    """Return the claims of a printed token."""
    claims: dict[str, object] = jwt.decode(token.strip(), SECRET, algorithms=["HS256"])
    return claims


def test_token_has_the_required_claims_only() -> None:
    tokens = [issue_test_token(make_settings(), "pt_7", seconds=60, now=NOW) for _ in range(2)]
    options: Any = {"verify_exp": False, "verify_iat": False}
    one, other = (jwt.decode(each, SECRET, ["HS256"], options) for each in tokens)
    assert one.pop("jti") != other["jti"]
    assert one == {"id": "pt_7", "type": "patient", "iat": 1_800_000_000, "exp": 1_800_000_060}


CONFIGURATIONS: list[dict[str, str]] = [
    {},
    {"JWT_ALGORITHMS": "HS512,HS256"},
    {"JWT_JWKS_URL": f"http://{NOWHERE}", "JWT_ISSUER": "us", "JWT_ALGORITHMS": "ES256,HS256"},
    {"JWT_ISSUER": "https://id.test", "JWT_AUDIENCE": "voice"},
    {"JWT_REQUIRED_SCOPE": "voice:start extra"},
    {"CONSENT_REQUIRED": "recording@1,ai@v2", "JWT_CONSENT_CLAIM": "consents.given"},
    {
        "VAPI_ASSISTANT_ID": "",
        "VAPI_ASSISTANTS": f"nurse:{ASSISTANT_ID}",
        "VAPI_ASSISTANT_CLAIM": "clinic.assistants",
    },
    {"JWT_DPOP": "accept", "PUBLIC_URL": "https://voice.test"},
    {"JWT_PATIENT_ID_CLAIM": "user.id", "JWT_ROLE_CLAIM": "user.roles"},
    {"JWT_PATIENT_ROLE": "Patient Zero"},
    {"JWT_MAX_LIFETIME_SECONDS": "60"},
    {"JWT_ISSUER": "https://id.test, https://old.test"},
    {"JWT_ROLE_CLAIM": "off"},
    {"JWT_REQUIRED_CLAIMS": "azp=voice|app, verified=true", "JWT_REQUIRED_TYPE": "at+jwt"},
    {
        "VAPI_ASSISTANT_ID": "",
        "VAPI_ASSISTANTS": f"nurse:{ASSISTANT_ID}",
        "CONSENT_REQUIRED": "recording@1",
        **dict.fromkeys(["JWT_ROLE_CLAIM", "VAPI_ASSISTANT_CLAIM", "JWT_CONSENT_CLAIM"], "scope"),
        "JWT_REQUIRED_SCOPE": "voice:start extra",
        "JWT_REQUIRED_CLAIMS": "aud=app, scope=member",
        "JWT_AUDIENCE": "voice",
    },
]


@pytest.mark.parametrize("variables", CONFIGURATIONS, ids=" ".join)
async def test_service_accepts_the_token(serve: Serve, variables: dict[str, str]) -> None:
    service = await serve(**variables)
    token = issue_test_token(make_settings(**variables), "pt_7", seconds=60, now=time())
    answer = await service.start(token)
    assert answer.status == 200, answer.body
    assert answer.json["data"]["patientContext"]["id"] == "pt_7"


JWKS = {"JWT_SECRET": "", "JWT_JWKS_URL": "https://id.test/jwks", "JWT_ISSUER": "https://id.test"}
DPOP = {"JWT_DPOP": "require", "PUBLIC_URL": "https://voice.test"}
CONFLICT = "Two settings require different values in the same claim"


@pytest.mark.parametrize(
    ("variables", "patient", "message"),
    [
        *[({}, patient, "1 to 128 characters") for patient in ("", "a b", "x" * 129, "\udcff")],
        ({"JWT_MAX_LIFETIME_SECONDS": "90"}, "x", "JWT_MAX_LIFETIME_SECONDS"),
        (JWKS, "x", "use your identity provider's"),
        (DPOP, "x", "With JWT_DPOP=require"),
        *[({"JWT_PATIENT_ID_CLAIM": each, "JWT_ISSUER": "us"}, "x", CONFLICT) for each in TAKEN],
    ],
)
async def test_token_that_would_be_refused_is_not_printed(
    command: Command, variables: dict[str, str], patient: str, message: str
) -> None:
    ended = await command("token", "--patient", patient, "--for", "91", **variables)
    assert (ended.status, ended.out) == (1, "")
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


async def test_patient_id_may_be_in_the_jti(command: Command) -> None:
    ended = await command("token", "--patient", "pt_1", JWT_PATIENT_ID_CLAIM="jti")
    assert payload(ended.out)["jti"] == "pt_1"


@pytest.mark.parametrize(
    ("longest", "requested", "seconds"),
    [("0", None, 3600), ("0", "60", 60), ("90", None, 90), ("90.5", None, 90), ("90", "90", 90)],
)
async def test_lifetime(
    command: Command, longest: str, requested: str | None, seconds: int
) -> None:
    arguments = ["--for", requested] if requested else []
    ended = await command(
        "token", "--patient", "pt_7", *arguments, JWT_MAX_LIFETIME_SECONDS=longest
    )
    assert ended.status == 0
    claims = payload(ended.out)
    assert claims["id"] == "pt_7"
    assert float(str(claims["exp"])) - float(str(claims["iat"])) == seconds
    assert abs(float(str(claims["exp"])) - time() - seconds) < 60

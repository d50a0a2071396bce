"""`python -m server token`: the configuration that issued a token accepts it."""

from time import time
from typing import Any

import jwt
import pytest

from rig.service import ASSISTANT_ID, SECRET, make_settings
from server.cli.main import main
from server.cli.token import issue_test_token
from server.config import Settings
from tests.conftest import Serve
from tests.table import NOWHERE

NOW = 1_800_000_000.5


Captured = pytest.CaptureFixture[str]


def payload(token: str) -> dict[str, object]:
    """Return the claims of a printed token."""
    claims: dict[str, object] = jwt.decode(token.strip(), SECRET, algorithms=["HS256"])
    return claims


def decoded(settings: Settings, **more: int) -> dict[str, object]:
    """Issue a token and return its claims."""
    token = issue_test_token(settings, "pt_7", seconds=more.get("seconds", 60), now=NOW)
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
    payload: dict[str, object] = jwt.decode(
        token, SECRET, algorithms=list(settings.jwt_algorithms), options=options
    )
    return payload


def test_token_has_the_required_claims_only() -> None:
    payload = decoded(make_settings())
    assert payload.pop("jti")
    assert payload == {
        "id": "pt_7",
        "type": "patient",
        "iat": 1_800_000_000,
        "exp": 1_800_000_060,
    }


def test_each_token_has_its_own_jti() -> None:
    assert decoded(make_settings())["jti"] != decoded(make_settings())["jti"]


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
]


@pytest.mark.parametrize("variables", CONFIGURATIONS, ids=" ".join)
async def test_service_accepts_the_token(serve: Serve, variables: dict[str, str]) -> None:
    service = await serve(**variables)
    token = issue_test_token(make_settings(**variables), "pt_7", seconds=60, now=time())
    answer = await service.start(token)
    assert answer.status == 200, answer.body
    assert answer.json["data"]["patientContext"]["id"] == "pt_7"


@pytest.mark.parametrize("patient", ["", "a b", "x" * 129, "\udcff", "pt_1\n"])
def test_invalid_patient_id_is_rejected(patient: str) -> None:
    with pytest.raises(ValueError, match="1 to 128 characters"):
        issue_test_token(make_settings(), patient, seconds=60, now=NOW)


def test_lifetime_over_the_maximum_is_rejected() -> None:
    settings = make_settings(JWT_MAX_LIFETIME_SECONDS="60")
    assert issue_test_token(settings, "pt_7", seconds=60, now=NOW)
    with pytest.raises(ValueError, match="JWT_MAX_LIFETIME_SECONDS"):
        issue_test_token(settings, "pt_7", seconds=61, now=NOW)


def test_secret_is_required() -> None:
    settings = make_settings(
        JWT_SECRET="", JWT_JWKS_URL="https://id.test/jwks", JWT_ISSUER="https://id.test"
    )
    with pytest.raises(ValueError, match="identity provider"):
        issue_test_token(settings, "pt_7", seconds=60, now=NOW)


def test_bearer_tokens_must_be_accepted() -> None:
    settings = make_settings(JWT_DPOP="require", PUBLIC_URL="https://voice.test")
    with pytest.raises(ValueError, match="JWT_DPOP=require"):
        issue_test_token(settings, "pt_1", seconds=60, now=NOW)


@pytest.mark.parametrize("taken", ["exp", "type", "iss"])
def test_conflicting_claim_settings_are_rejected(taken: str) -> None:
    settings = make_settings(JWT_PATIENT_ID_CLAIM=taken, JWT_ISSUER="https://issuer.test/")
    with pytest.raises(ValueError, match="Two settings require different values"):
        issue_test_token(settings, "pt_1", seconds=60, now=1000)


def test_patient_id_may_be_in_the_jti() -> None:
    settings = make_settings(JWT_PATIENT_ID_CLAIM="jti")
    token = issue_test_token(settings, "pt_1", seconds=60, now=time())
    assert jwt.decode(token, SECRET, algorithms=["HS256"])["jti"] == "pt_1"


# --- the command -----------------------------------------------------------------------------


def test_token_is_printed_alone_and_is_valid_for_an_hour(
    configured: pytest.MonkeyPatch, capfd: Captured
) -> None:
    assert main(["token", "--patient", "pt_7"]) == 0
    claims = payload(capfd.readouterr().out)
    assert (claims["id"], claims["type"]) == ("pt_7", "patient")
    assert abs(float(str(claims["exp"])) - time() - 3600) < 60


@pytest.mark.parametrize(
    ("longest", "requested", "seconds"),
    [("0", None, 3600), ("0", "60", 60), ("90", None, 90), ("90.5", None, 90), ("90", "60", 60)],
)
def test_lifetime(
    longest: str,
    requested: str | None,
    seconds: int,
    configured: pytest.MonkeyPatch,
    capfd: Captured,
) -> None:
    configured.setenv("JWT_MAX_LIFETIME_SECONDS", longest)
    assert main(["token", "--patient", "pt_7", *(["--for", requested] if requested else [])]) == 0
    claims = payload(capfd.readouterr().out)
    assert float(str(claims["exp"])) - float(str(claims["iat"])) == seconds


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["--patient", "a b"], {}, "1 to 128 characters"),
        (["--patient", ""], {}, "1 to 128 characters"),
        (["--patient", "x", "--for", "91"], {"JWT_MAX_LIFETIME_SECONDS": "90"}, "JWT_MAX_LIFETIME"),
        (
            ["--patient", "x"],
            {"JWT_SECRET": "", "JWT_JWKS_URL": "https://id.test", "JWT_ISSUER": "us"},
            "JWT_SECRET",
        ),
    ],
)
def test_token_that_would_be_refused_is_not_printed(
    arguments: list[str],
    variables: dict[str, str],
    message: str,
    configured: pytest.MonkeyPatch,
    capfd: Captured,
) -> None:
    for name, value in variables.items():
        configured.setenv(name, value)
    assert main(["token", *arguments]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1

"""Tokens for trying things out: each is granted by the configuration it was made with."""

from time import time
from typing import Any

import jwt
import pytest

from server.cli.token import issue_test_token
from server.config import Settings
from tests.conftest import Serve
from tests.support import SECRET, make_settings

NOW = 1_800_000_000.5


def decoded(settings: Settings, **more: int) -> dict[str, object]:
    """Mint, and read what was minted."""
    token = issue_test_token(settings, "pt_7", seconds=more.get("seconds", 60), now=NOW)
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
    payload: dict[str, object] = jwt.decode(
        token, SECRET, algorithms=list(settings.jwt_algorithms), options=options
    )
    return payload


def test_a_token_says_no_more_than_it_must() -> None:
    payload = decoded(make_settings())
    assert payload.pop("jti")
    assert payload == {
        "id": "pt_7",
        "type": "patient",
        "iat": 1_800_000_000,
        "exp": 1_800_000_060,
    }


def test_no_two_tokens_have_the_same_jti() -> None:
    assert decoded(make_settings())["jti"] != decoded(make_settings())["jti"]


CONFIGURATIONS: list[dict[str, str]] = [
    {},
    {"JWT_ALGORITHMS": "HS512,HS256"},
    {"JWT_ISSUER": "https://id.test", "JWT_AUDIENCE": "voice"},
    {"JWT_REQUIRED_SCOPE": "voice:start extra"},
    {"JWT_PATIENT_ID_CLAIM": "user.id", "JWT_ROLE_CLAIM": "user.roles"},
    {"JWT_PATIENT_ROLE": "Patient Zero"},
    {"JWT_MAX_LIFETIME_SECONDS": "60"},
]


@pytest.mark.parametrize("variables", CONFIGURATIONS, ids=str)
async def test_the_service_grants_what_was_minted_for_it(
    serve: Serve, variables: dict[str, str]
) -> None:
    service = await serve(**variables)
    token = issue_test_token(make_settings(**variables), "pt_7", seconds=60, now=time())
    answer = await service.start(token)
    assert answer.status == 200, answer.body
    assert answer.json["data"]["patientContext"]["id"] == "pt_7"


@pytest.mark.parametrize("patient", ["", "a b", "x" * 129, "\udcff", "pt_1\n"])
def test_an_unusable_patient_id_is_refused(patient: str) -> None:
    with pytest.raises(ValueError, match="1 to 128 characters"):
        issue_test_token(make_settings(), patient, seconds=60, now=NOW)


def test_a_life_longer_than_allowed_is_refused() -> None:
    settings = make_settings(JWT_MAX_LIFETIME_SECONDS="60")
    assert issue_test_token(settings, "pt_7", seconds=60, now=NOW)
    with pytest.raises(ValueError, match="JWT_MAX_LIFETIME_SECONDS"):
        issue_test_token(settings, "pt_7", seconds=61, now=NOW)


def test_without_a_secret_there_is_nothing_to_sign_with() -> None:
    settings = make_settings(
        JWT_SECRET="", JWT_JWKS_URL="https://id.test/jwks", JWT_ISSUER="https://id.test"
    )
    with pytest.raises(ValueError, match="identity provider"):
        issue_test_token(settings, "pt_7", seconds=60, now=NOW)


@pytest.mark.parametrize("taken", ["exp", "type", "iss"])
def test_a_claim_that_would_have_to_be_two_things_is_told(taken: str) -> None:
    settings = make_settings(JWT_PATIENT_ID_CLAIM=taken, JWT_ISSUER="https://issuer.test/")
    with pytest.raises(ValueError, match="Two settings require different values"):
        issue_test_token(settings, "pt_1", seconds=60, now=1000)


def test_the_id_of_a_token_may_be_the_patients() -> None:
    settings = make_settings(JWT_PATIENT_ID_CLAIM="jti")
    token = issue_test_token(settings, "pt_1", seconds=60, now=time())
    assert jwt.decode(token, SECRET, algorithms=["HS256"])["jti"] == "pt_1"

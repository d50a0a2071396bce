"""`docs/authentication.md` holds: each provider's settings, with a token of that provider's shape;
and what it says that can be tried by hand.
"""

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from time import time
from typing import Any

import pytest

from server.config.loader import SettingsError
from tests.conftest import Serve
from tests.issuer import Issuer, Key, issuing, key
from tests.support import SECRET, Service, make_settings, sign

PAGE = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text()
BLOCKS = {
    name: dict(line.split("=", 1) for line in block.splitlines())
    for name, block in re.findall(r"\n### (.+?)\n[^#]*?```env\n(.*?)\n```", PAGE, re.DOTALL)
}
OWN_BACKEND = "A backend of your own, with HS256"
NO_SECRET = BLOCKS[OWN_BACKEND]["JWT_SECRET"]
BLOCKS[OWN_BACKEND]["JWT_SECRET"] = SECRET

SHAPES: dict[str, dict[str, Any]] = {
    "Auth0": {
        "https://clinic.example/roles": ["patient"],
        "sub": "auth0|65f1c0a9e3b2d4f6a8c0e2b4",
        "aud": ["https://voice.clinic.example", "https://clinic.eu.auth0.com/userinfo"],
        "azp": "Zx3cV5bN7mQ9",
        "scope": "openid profile offline_access",
        "permissions": [],
    },
    "Amazon Cognito": {
        "sub": "03a4d8f2-1091-70e5-b6c7-0f1e2d3c4b5a",
        "cognito:groups": ["eu-central-1_clinic_Google", "patient"],
        "version": 2,
        "client_id": "7q1example2client3id",
        "origin_jti": "b3c4a1d0-9f6e-4c55-8b1b-6f2f3a1d9c77",
        "event_id": "0d9e4a70-3d6b-4f3b-9c0a-1e2f3a4b5c6d",
        "token_use": "access",
        "scope": "aws.cognito.signin.user.admin openid",
        "auth_time": 1700000000,
        "jti": "a7c1f7a2-55d1-4f0e-a6a9-3f1f6f0c9b11",
        "username": "03a4d8f2-1091-70e5-b6c7-0f1e2d3c4b5a",
    },
    "Firebase": {
        "type": "patient",
        "aud": "clinic",
        "auth_time": 1700000000,
        "user_id": "kR4tYw2ZqXbV7nMs9LpD1cFgH3j2",
        "sub": "kR4tYw2ZqXbV7nMs9LpD1cFgH3j2",
        "email": "ada@clinic.example",
        "email_verified": True,
        "firebase": {
            "identities": {"email": ["ada@clinic.example"]},
            "sign_in_provider": "password",
        },
    },
    "Supabase": {
        "sub": "8c7f1c9a-52c4-4e67-9a61-1f5b9d2f7e10",
        "aud": "authenticated",
        "email": "ada@clinic.example",
        "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"], "role": "patient"},
        "user_metadata": {"role": "admin"},
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": 1700000000}],
        "session_id": "e0c9b7a6-5d4c-4b3a-9281-706f5e4d3c2b",
        "is_anonymous": False,
    },
    "Keycloak": {
        "jti": "onrtac:1f0a2b3c-4d5e-4f60-8a9b-0c1d2e3f4a5b",
        "aud": ["voice", "account"],
        "sub": "f:3b1e:ada",
        "typ": "Bearer",
        "azp": "app",
        "sid": "5e4d3c2b-1a09-4f8e-9d7c-6b5a49382716",
        "acr": "1",
        "allowed-origins": ["https://app.clinic.example"],
        "realm_access": {"roles": ["offline_access", "patient", "default-roles-clinic"]},
        "resource_access": {"account": {"roles": ["view-profile"]}},
        "scope": "profile email",
        "preferred_username": "ada",
    },
    OWN_BACKEND: {"id": 4711, "type": "patient", "aud": "voice"},
}


def shaped(name: str, **changes: Any) -> dict[str, Any]:
    """Give the claims of a provider's token, as they would stand in it now."""
    now = int(time())
    dates = {"iat": now, "exp": now + 3600, "iss": BLOCKS[name]["JWT_ISSUER"]}
    return {**SHAPES[name], **dates, **changes}


def made(name: str, signer: Key, **changes: Any) -> str:
    payload = shaped(name, **changes)
    if name == OWN_BACKEND:
        return sign(payload, BLOCKS[name]["JWT_SECRET"])
    return signer.token(payload, typ="at+jwt")


def without_role(name: str) -> dict[str, Any]:
    claim = BLOCKS[name].get("JWT_ROLE_CLAIM", "type").partition(".")[0]
    whole = SHAPES[name]
    return {next(each for each in whole if each.startswith(claim)): "staff"}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


async def configured(name: str, issuer: Issuer, serve: Serve) -> Service:
    """Run the service with a provider's block; only the address of its keys is on loopback."""
    block = {"JWT_SECRET": "", **BLOCKS[name]}
    if name != OWN_BACKEND:
        issuer.keys = [key("current", block["JWT_ALGORITHMS"]), key("next", "EdDSA")]
        block["JWT_JWKS_URL"] = issuer.url
    return await serve(**block)


def test_there_is_a_block_for_each_provider_and_a_token_for_each_block() -> None:
    assert BLOCKS.keys() == SHAPES.keys()


def test_the_page_holds_no_secret_that_could_be_pasted_unread() -> None:
    with pytest.raises(SettingsError, match="JWT_SECRET: must be at least 32 bytes"):
        make_settings(JWT_SECRET=NO_SECRET)


@pytest.mark.parametrize("name", SHAPES)
def test_a_block_holds_as_it_stands(name: str) -> None:
    settings = make_settings(**{"JWT_SECRET": "", **BLOCKS[name]})
    assert settings.jwt_issuer == BLOCKS[name]["JWT_ISSUER"]


@pytest.mark.parametrize("name", SHAPES)
async def test_a_patients_token_is_granted(name: str, issuer: Issuer, serve: Serve) -> None:
    service = await configured(name, issuer, serve)
    answer = await service.start(made(name, issuer.keys[0]))
    assert answer.status == 200
    patient = str(SHAPES[name].get("sub", 4711))
    assert answer.json["data"]["patientContext"]["id"] == patient


@pytest.mark.parametrize("name", SHAPES)
async def test_whoever_is_no_patient_there_is_none_here(
    name: str, issuer: Issuer, serve: Serve
) -> None:
    service = await configured(name, issuer, serve)
    answer = await service.start(made(name, issuer.keys[0], **without_role(name)))
    assert (answer.status, answer.code) == (403, "FORBIDDEN")


@pytest.mark.parametrize("name", SHAPES)
async def test_a_token_of_another_tenant_is_refused(
    name: str, issuer: Issuer, serve: Serve
) -> None:
    service = await configured(name, issuer, serve)
    answer = await service.start(made(name, issuer.keys[0], iss="https://other.example/"))
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_INVALID")


@pytest.mark.parametrize("name", [name for name in SHAPES if "aud" in SHAPES[name]])
async def test_a_token_for_another_service_is_refused(
    name: str, issuer: Issuer, serve: Serve
) -> None:
    service = await configured(name, issuer, serve)
    answer = await service.start(made(name, issuer.keys[0], aud=["account", "other"]))
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_INVALID")


async def test_an_id_token_of_cognito_is_no_access_token(issuer: Issuer, serve: Serve) -> None:
    service = await configured("Amazon Cognito", issuer, serve)
    changes = {"token_use": "id", "aud": "7q1example2client3id", "scope": None}
    answer = await service.start(made("Amazon Cognito", issuer.keys[0], **changes))
    assert (answer.status, answer.code) == (403, "INSUFFICIENT_SCOPE")


async def test_what_a_user_of_supabase_can_write_makes_nobody_a_patient(
    issuer: Issuer, serve: Serve
) -> None:
    service = await configured("Supabase", issuer, serve)
    changes = {"app_metadata": {"provider": "email"}, "user_metadata": {"role": "patient"}}
    answer = await service.start(made("Supabase", issuer.keys[0], **changes))
    assert answer.code == "FORBIDDEN"


async def test_what_can_be_tried_by_hand_gives_what_the_page_says(serve: Serve) -> None:
    if shutil.which("bash") is None or shutil.which("curl") is None:
        pytest.skip("bash or curl is not installed")
    script = PAGE.rpartition("```sh\n")[2].partition("```")[0]
    service = await serve()
    variables = {"URL": service.url, "PYTHON": sys.executable, "JWT_SECRET": SECRET}
    shell = await asyncio.create_subprocess_exec(
        "bash", "-euc", script, env={**os.environ, **variables}, stdout=PIPE
    )
    output, _ = await shell.communicate()
    said = re.findall(r"# (\d{3}.*)", script)
    found = [answer_line(line) for line in output.decode().splitlines()]
    assert found == said
    assert len(said) >= 20


def answer_line(line: str) -> str:
    code = re.search(r'"code":"(\w+)"', line)
    return f"{line[-3:]} {code[1]}" if code else line[-3:]

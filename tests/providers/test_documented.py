"""`docs/authentication.md`: each provider's settings with a token of that provider's shape, and the
commands to try by hand.
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
from uuid import uuid4

import pytest

from rig.issuer import Issuer, issuing, key
from rig.service import SECRET, VARIABLES, Service, make_settings, sign
from server.config.loader import SettingsError, load_configuration
from tests.conftest import Serve

PAGE = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text()
BLOCKS = {
    name: dict(line.split("=", 1) for line in block.splitlines())
    for name, block in re.findall(r"\n### (.+?)\n[^#]*?```env\n(.*?)\n```", PAGE, re.DOTALL)
}
OWN_BACKEND = "A backend of your own, with HS256"
PLACEHOLDER = BLOCKS[OWN_BACKEND]["JWT_SECRET"]
BLOCKS[OWN_BACKEND]["JWT_SECRET"] = SECRET

SHAPES: dict[str, dict[str, Any]] = {
    "Microsoft Entra ID": {
        "aud": "11112222-bbbb-3333-cccc-4444dddd5555",
        "aio": "AXQAi/8TAAAA",
        "azp": "00001111-aaaa-2222-bbbb-3333cccc4444",
        "azpacr": "0",
        "name": "Ada Clinic",
        "oid": "aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb",
        "preferred_username": "ada@clinic.example",
        "rh": "0.AX0A",
        "roles": ["patient"],
        "scp": "profile voice",
        "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
        "tid": "6babcaad-604b-40ac-a9d7-9fd97c0b779f",
        "uti": "fqiBqXLPj0eQa82S-IYFAA",
        "ver": "2.0",
    },
    "Okta": {
        "ver": 1,
        "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
        "aud": "api://default",
        "cid": "nmdP1fcyvdVO11AL7ECm",
        "uid": "00ujmkLgagxeRrAg20g3",
        "scp": ["openid", "offline_access"],
        "auth_time": 1700000000,
        "sub": "ada@clinic.example",
        "groups": ["Everyone", "patient"],
    },
    "SMART on FHIR": {
        "aud": "https://fhir.clinic.example/r4",
        "sub": "f1c0a9e3",
        "client_id": "voice-app",
        "scope": "launch/patient patient/*.rs openid fhirUser",
        "patient": "smart-1288992",
        "need_patient_banner": False,
        "fhirUser": "https://fhir.clinic.example/r4/Patient/smart-1288992",
        "user_type": "Patient",
        "jti": "5b1f6c2e-7a0d-4c57-8f38-0d3a1c2b9e44",
    },
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
    "Microsoft Entra External ID": {
        "aud": "11112222-bbbb-3333-cccc-4444dddd5555",
        "azp": "00001111-aaaa-2222-bbbb-3333cccc4444",
        "azpacr": "0",
        "idtyp": "user",
        "name": "Ada Clinic",
        "oid": "aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb",
        "preferred_username": "ada@clinic.example",
        "rh": "1.AX0A",
        "scp": "voice",
        "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
        "tid": "6babcaad-604b-40ac-a9d7-9fd97c0b779f",
        "uti": "fqiBqXLPj0eQa82S-IYFAA",
        "ver": "2.0",
    },
    "Clerk": {
        "azp": "https://app.clinic.example",
        "fva": [7, -1],
        "metadata": {"role": "patient"},
        "sid": "sess_2gwhTfvDkBiPvrH0mQeEKoW4mpY",
        "sts": "active",
        "sub": "user_2gwhSxQ3fVmTn5HqEqJbI9Wc7uR",
        "v": 2,
    },
    "Zitadel": {
        "aud": ["284927364510293111@clinic", "284927364510293847"],
        "client_id": "284927364510293111@clinic",
        "jti": "V2_284927364510294000-at_284927364510294001",
        "sub": "284927364510290001",
        "urn:zitadel:iam:org:project:roles": {
            "patient": {"284927364510280000": "clinic.a1b2c3.zitadel.cloud"}
        },
    },
    "Logto": {
        "jti": "tF0fTnpPp0s7kqJ8yGq3v",
        "sub": "4oobq5quqzsi",
        "scope": "voice:start",
        "client_id": "z2pj9a3bl6w0oj1pqq0u5",
        "aud": "https://voice.clinic.example",
    },
    "WorkOS": {
        "sub": "user_01HBEQKA6K4QJAS93VPE39W1JT",
        "sid": "session_01HQSXZGF8FHF7A9ZZFCW4387R",
        "jti": "01HQSXZXPPFPKMDD32RKTFY6PV",
        "org_id": "org_01HRDMC6CM357W30QMHMQ96Q0S",
        "role": "patient",
        "roles": ["patient"],
        "permissions": [],
        "entitlements": [],
        "aud": "voice",
    },
    "Ory": {
        "aud": ["voice"],
        "client_id": "3f9e2b60-4c43-4f4e-a9b0-6e4d7c1b2a38",
        "ext": {"role": "patient"},
        "jti": "6a7b8c9d-0e1f-4a2b-8c3d-4e5f60718293",
        "scp": ["openid", "offline_access"],
        "sub": "b9d8c7e6-f5a4-4b3c-9d2e-1f0a9b8c7d6e",
    },
    "ID-porten": {
        "sub": "qD0kwgr3FcGA9zy4M7O_4Dco95Uobipd0RJeHSWypG5BL0VrsSND4Pppa2ZInbDyTGfo0AncdvAb",
        "aud": "https://voice.clinic.example",
        "acr": "idporten-loa-substantial",
        "client_amr": "none",
        "client_id": "5c1a2f3e-8b7d-4e60-9f12-3a4b5c6d7e8f",
        "consumer": {"authority": "iso6523-actorid-upis", "ID": "0192:999999999"},
        "jti": "iS8vTTPrM3T7rWf8dXxeWA",
        "scope": "clinic:voice",
        "token_type": "Bearer",
    },
    OWN_BACKEND: {"id": 4711, "type": "patient", "aud": "voice"},
}
WITH_AUDIENCE = [name for name in SHAPES if "aud" in SHAPES[name]]
WITH_SCOPE = [name for name, block in BLOCKS.items() if "JWT_REQUIRED_SCOPE" in block]
WITH_CLAIMS = [name for name, block in BLOCKS.items() if "JWT_REQUIRED_CLAIMS" in block]
WITHOUT_ROLE = [name for name, block in BLOCKS.items() if block.get("JWT_ROLE_CLAIM") == "off"]


def claims_of(name: str, **changes: Any) -> dict[str, Any]:
    """Return the claims of a provider's token, issued now; a value of `...` omits the claim."""
    now = int(time())
    dates = {"iat": now, "exp": now + 3600, "iss": BLOCKS[name]["JWT_ISSUER"]}
    claims = {**SHAPES[name], **dates, **changes}
    return {name: value for name, value in claims.items() if value is not ...}


def token_of(name: str, issuer: Issuer, **changes: Any) -> str:
    payload = claims_of(name, **changes)
    if name == OWN_BACKEND:
        return sign(payload, BLOCKS[name]["JWT_SECRET"])
    return issuer.keys[0].token(payload, typ="at+jwt")


def other_role(name: str) -> dict[str, Any]:
    claim = BLOCKS[name].get("JWT_ROLE_CLAIM", "type").partition(".")[0]
    return {next(each for each in SHAPES[name] if each.startswith(claim)): "staff"}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


async def configured(name: str, issuer: Issuer, serve: Serve, **changes: str) -> Service:
    """Run the service with a provider's block; only the address of its keys is on loopback."""
    block = {"JWT_SECRET": "", **BLOCKS[name], **changes}
    if name != OWN_BACKEND:
        issuer.keys = [key("current", block["JWT_ALGORITHMS"]), key("next", "EdDSA")]
        block["JWT_JWKS_URL"] = issuer.url
    return await serve(**block)


async def result(service: Service, token: str) -> tuple[int, str | None]:
    answer = await service.start(token)
    return answer.status, answer.code


def test_each_block_has_a_token() -> None:
    assert BLOCKS.keys() == SHAPES.keys()


def test_placeholder_of_the_secret_is_rejected() -> None:
    with pytest.raises(SettingsError, match="JWT_SECRET: must be at least 32 bytes"):
        make_settings(JWT_SECRET=PLACEHOLDER)


@pytest.mark.parametrize("name", SHAPES)
def test_block_is_valid_as_written(name: str) -> None:
    settings = make_settings(**{"JWT_SECRET": "", **BLOCKS[name]})
    assert settings.jwt_issuer == (BLOCKS[name]["JWT_ISSUER"],)


@pytest.mark.parametrize("name", SHAPES)
async def test_token_of_a_patient_is_granted(name: str, issuer: Issuer, serve: Serve) -> None:
    service = await configured(name, issuer, serve)
    answer = await service.start(token_of(name, issuer))
    assert answer.status == 200
    patient = SHAPES[name][BLOCKS[name].get("JWT_PATIENT_ID_CLAIM", "id")]
    assert answer.json["data"]["patientContext"]["id"] == str(patient)


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in WITHOUT_ROLE])
async def test_token_with_another_role_is_forbidden(
    name: str, issuer: Issuer, serve: Serve
) -> None:
    service = await configured(name, issuer, serve)
    token = token_of(name, issuer, **other_role(name))
    assert await result(service, token) == (403, "FORBIDDEN")


@pytest.mark.parametrize("name", SHAPES)
async def test_token_of_another_issuer_is_rejected(name: str, issuer: Issuer, serve: Serve) -> None:
    service = await configured(name, issuer, serve)
    token = token_of(name, issuer, iss="https://other.example/")
    assert await result(service, token) == (401, "AUTH_TOKEN_INVALID")


@pytest.mark.parametrize("audience", [["account", "other"], "other", ...])
@pytest.mark.parametrize("name", WITH_AUDIENCE)
async def test_token_for_another_audience_is_rejected(
    name: str, audience: object, issuer: Issuer, serve: Serve
) -> None:
    service = await configured(name, issuer, serve)
    token = token_of(name, issuer, aud=audience)
    assert await result(service, token) == (401, "AUTH_TOKEN_INVALID")


@pytest.mark.parametrize("name", WITH_SCOPE)
async def test_token_without_the_scope_is_rejected(name: str, issuer: Issuer, serve: Serve) -> None:
    """Neither ID tokens nor tokens of an Entra application without a user have a scope."""
    service = await configured(name, issuer, serve)
    token = token_of(name, issuer, scope=..., scp=...)
    assert await result(service, token) == (403, "INSUFFICIENT_SCOPE")


@pytest.mark.parametrize("name", WITH_CLAIMS)
async def test_token_without_a_required_claim_is_rejected(
    name: str, issuer: Issuer, serve: Serve
) -> None:
    service = await configured(name, issuer, serve)
    for entry in BLOCKS[name]["JWT_REQUIRED_CLAIMS"].split(","):
        claim = entry.partition("=")[0]
        for value in (..., "another"):
            token = token_of(name, issuer, **{claim: value})
            assert await result(service, token) == (401, "AUTH_TOKEN_INVALID")


@pytest.mark.parametrize("name", SHAPES)
def test_advice_is_about_what_the_provider_has(name: str) -> None:
    variables = {**VARIABLES, "JWT_SECRET": "", **BLOCKS[name], "VAPI_ASSISTANT_ID": str(uuid4())}
    configuration = load_configuration(variables, Path("no .env"))
    expected = {"JWT_ROLE_CLAIM": name in WITHOUT_ROLE, "JWT_AUDIENCE": name == "Clerk"}
    assert [each.partition(":")[0] for each in configuration.advice] == [
        each for each in expected if expected[each]
    ]


async def test_the_national_number_of_id_porten_is_not_the_patient_id(
    issuer: Issuer, serve: Serve
) -> None:
    service = await configured("ID-porten", issuer, serve)
    answer = await service.start(token_of("ID-porten", issuer, pid="47906701517"))
    assert answer.json["data"]["patientContext"]["id"] == SHAPES["ID-porten"]["sub"]


async def test_entra_token_of_version_1_is_rejected(issuer: Issuer, serve: Serve) -> None:
    name = "Microsoft Entra ID"
    service = await configured(name, issuer, serve)
    tenant = SHAPES[name]["tid"]
    version_1 = {"iss": f"https://sts.windows.net/{tenant}/", "aud": f"api://{SHAPES[name]['aud']}"}
    token = token_of(name, issuer, **version_1, ver="1.0")
    assert await result(service, token) == (401, "AUTH_TOKEN_INVALID")


async def test_supabase_user_metadata_does_not_make_a_patient(issuer: Issuer, serve: Serve) -> None:
    service = await configured("Supabase", issuer, serve)
    changes = {"app_metadata": {"provider": "email"}, "user_metadata": {"role": "patient"}}
    token = token_of("Supabase", issuer, **changes)
    assert await result(service, token) == (403, "FORBIDDEN")


async def test_smart_clinician_with_a_patient_in_context_is_forbidden(
    issuer: Issuer, serve: Serve
) -> None:
    name = "SMART on FHIR"
    service = await configured(name, issuer, serve)
    practitioner = "https://fhir.clinic.example/r4/Practitioner/77"
    token = token_of(name, issuer, fhirUser=practitioner, user_type="Practitioner")
    assert await result(service, token) == (403, "FORBIDDEN")


async def test_smart_launch_context_can_be_nested(issuer: Issuer, serve: Serve) -> None:
    name = "SMART on FHIR"
    (claim,) = re.findall(r"`JWT_PATIENT_ID_CLAIM=(context\.patient)`", PAGE)
    service = await configured(name, issuer, serve, JWT_PATIENT_ID_CLAIM=claim)
    answer = await service.start(token_of(name, issuer, patient=..., context={"patient": "p-1"}))
    assert answer.json["data"]["patientContext"]["id"] == "p-1"


async def test_commands_to_try_by_hand_respond_as_documented(serve: Serve) -> None:
    if shutil.which("bash") is None or shutil.which("curl") is None:
        pytest.skip("bash or curl is not installed")
    script = PAGE.rpartition("```sh\n")[2].partition("```")[0]
    service = await serve()
    variables = {"URL": service.url, "PYTHON": sys.executable, "JWT_SECRET": SECRET}
    shell = await asyncio.create_subprocess_exec(
        "bash", "-euc", script, env={**os.environ, **variables}, stdout=PIPE
    )
    output, _ = await shell.communicate()
    documented = re.findall(r"# (\d{3}.*)", script)
    assert [outcome(line) for line in output.decode().splitlines()] == documented
    assert len(documented) >= 20


def outcome(line: str) -> str:
    code = re.search(r'"code":"(\w+)"', line)
    return f"{line[-3:]} {code[1]}" if code else line[-3:]

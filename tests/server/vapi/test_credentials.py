"""The credentials that apps receive."""

from typing import Any

import jwt
import pytest

from rig.service import ASSISTANT_ID, ORG_ID, PRIVATE_KEY, PUBLIC_KEY, make_settings
from server.config.settings import CredentialType
from server.vapi.credentials import Credential, make_credential_issuer

NOW = 1_800_000_000.9


def test_public_key_does_not_expire() -> None:
    issue = make_credential_issuer(make_settings(), lambda: NOW)
    assert (
        issue(ASSISTANT_ID)
        == issue(ASSISTANT_ID)
        == Credential(PUBLIC_KEY, CredentialType.PUBLIC_KEY, None)
    )


@pytest.mark.parametrize("origins", [(), ("https://a.test", "https://b.test")])
def test_session_token_has_exactly_these_claims(origins: tuple[str, ...]) -> None:
    settings = make_settings(
        VAPI_CREDENTIAL="session_token",
        VAPI_TOKEN_TTL_SECONDS="10",
        VAPI_ALLOWED_ORIGINS=",".join(origins),
    )
    credential = make_credential_issuer(settings, lambda: NOW)(ASSISTANT_ID)
    assert credential.type == "session_token"
    assert credential.expires_at == "2027-01-15T08:00:10.000Z"
    options: Any = {"verify_exp": False, "verify_iat": False}
    payload = jwt.decode(credential.api_key, PRIVATE_KEY, algorithms=["HS256"], options=options)
    restrictions = {
        "enabled": True,
        "allowedAssistantIds": [ASSISTANT_ID],
        "allowTransientAssistant": False,
        **({"allowedOrigins": list(origins)} if origins else {}),
    }
    assert payload == {
        "orgId": ORG_ID,
        "token": {"tag": "public", "restrictions": restrictions},
        "iat": 1_800_000_000,
        "exp": 1_800_000_010,
    }


def test_session_tokens_of_different_seconds_differ() -> None:
    now = NOW
    issue = make_credential_issuer(make_settings(VAPI_CREDENTIAL="session_token"), lambda: now)
    first = issue(ASSISTANT_ID)
    now += 0.05
    assert issue(ASSISTANT_ID) is first
    now += 0.1
    assert issue(ASSISTANT_ID).expires_at != first.expires_at


def test_session_tokens_of_different_assistants_differ() -> None:
    issue = make_credential_issuer(make_settings(VAPI_CREDENTIAL="session_token"), lambda: NOW)
    first, second = issue("first"), issue("second")
    assert (issue("first"), issue("second")) == (first, second)
    for credential, name in ((first, "first"), (second, "second")):
        payload = jwt.decode(credential.api_key, options={"verify_signature": False})
        assert payload["token"]["restrictions"]["allowedAssistantIds"] == [name]

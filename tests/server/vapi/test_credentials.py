"""The credentials that apps receive."""

import jwt

from rig.service import ASSISTANT_ID, PUBLIC_KEY, make_settings
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

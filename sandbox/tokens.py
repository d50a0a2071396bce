"""Tokens of the sandbox: valid ones, and one for each kind of rejection."""

from dataclasses import replace
from enum import StrEnum
from time import time

import jwt

from sandbox.patients import assistants_of
from server.cli.token import issue_test_token
from server.config import Settings
from server.config.settings import CredentialType
from server.vapi.credentials import make_credential_issuer

LIFETIME_SECONDS = 3600


class Kind(StrEnum):
    """The defect of a token; those from `REVOKED` on are valid, for `FailureInjector`."""

    VALID = "valid"
    EXPIRED = "expired"
    FORGED = "forged"
    NURSE = "nurse"
    SCOPELESS = "scopeless"
    REVOKED = "revoked"
    NO_CONSENT = "no_consent"
    USED_UP = "used_up"
    CRASH = "crash"
    UNAVAILABLE = "unavailable"
    UNRECORDED = "unrecorded"
    STUCK = "stuck"


def patient_token(
    settings: Settings,
    patient: str,
    kind: Kind = Kind.VALID,
    *,
    assistants: tuple[str, ...] = (),
) -> str:
    """Sign a token like an identity provider; the patient may use `assistants`, or the usual ones.

    Raises ValueError for an unusable patient id.
    """
    now = time()
    if kind is Kind.EXPIRED:
        now -= 2 * LIFETIME_SECONDS
    elif kind is Kind.FORGED:
        settings = replace(settings, jwt_secret=b"a secret that the service does not have")
    elif kind is Kind.NURSE:
        settings = replace(settings, jwt_patient_role="nurse")
    elif kind is Kind.SCOPELESS:
        settings = replace(settings, jwt_required_scope="profile")
    token = issue_test_token(settings, patient, seconds=LIFETIME_SECONDS, now=now)
    if not settings.vapi_assistant_claim:
        return token
    claims = jwt.decode(token, options={"verify_signature": False})
    claims[settings.vapi_assistant_claim] = assistants or assistants_of(patient)
    return jwt.encode(claims, settings.jwt_secret)


def expired_credential(settings: Settings) -> str:
    """Sign a session token for Vapi that has expired."""
    settings = replace(settings, vapi_credential=CredentialType.SESSION_TOKEN)
    issue = make_credential_issuer(settings, clock=lambda: time() - 2 * LIFETIME_SECONDS)
    return issue(settings.vapi_assistant_id).api_key

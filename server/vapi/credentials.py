"""What the app is handed to start its session with: the public key, or a token made for it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import jwt

from middlewares.timestamps import Clock, rfc3339
from server.config import Settings
from server.config.settings import CredentialType


@dataclass(frozen=True, slots=True)
class Credential:
    """Goes to the SDK as its API key; `expires_at` is an RFC 3339 instant, or None for never."""

    api_key: str
    type: CredentialType
    expires_at: str | None


IssueCredential = Callable[[], Credential]
"""Gives the credential for one request."""


def make_credential_issuer(settings: Settings, clock: Clock) -> IssueCredential:
    """Make what gives the kind of credential that the settings ask for."""
    if settings.vapi_credential == CredentialType.SESSION_TOKEN:
        return _session_tokens(settings, clock)
    public = Credential(settings.vapi_public_api_key, CredentialType.PUBLIC_KEY, None)
    return lambda: public


def _session_tokens(settings: Settings, clock: Clock) -> IssueCredential:
    """Sign tokens as Vapi's documentation on JWT authentication describes them.

    Each is locked to one assistant, and to the listed web origins when there are any. Tokens of one
    second are alike, so one is signed for all of them.
    """
    restrictions: dict[str, object] = {
        "enabled": True,
        "allowedAssistantIds": [settings.vapi_assistant_id],
        "allowTransientAssistant": False,
    }
    if settings.vapi_allowed_origins:
        restrictions["allowedOrigins"] = list(settings.vapi_allowed_origins)
    grant = {"tag": "public", "restrictions": restrictions}

    @lru_cache(maxsize=1)
    def issue_at(now: int) -> Credential:
        expires_at = now + settings.vapi_token_ttl_seconds
        claims = {"orgId": settings.vapi_org_id, "token": grant, "iat": now, "exp": expires_at}
        token = jwt.encode(claims, settings.vapi_api_key, algorithm="HS256")
        return Credential(token, CredentialType.SESSION_TOKEN, rfc3339(expires_at))

    return lambda: issue_at(int(clock()))

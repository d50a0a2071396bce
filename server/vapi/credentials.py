"""The credential that an app starts its session with: the public key, or a session token."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import jwt

from middlewares.context import Clock, rfc3339
from server.config import Settings
from server.config.settings import CredentialType


@dataclass(frozen=True, slots=True)
class Credential:
    """The API key for the SDK; `expires_at` is an RFC 3339 timestamp, None if it never expires."""

    api_key: str
    type: CredentialType
    expires_at: str | None


IssueCredential = Callable[[], Credential]
"""Returns the credential for one request."""


def make_credential_issuer(settings: Settings, clock: Clock) -> IssueCredential:
    """Return the function that issues credentials of the configured type."""
    if settings.vapi_credential == CredentialType.SESSION_TOKEN:
        return _session_tokens(settings, clock)
    public = Credential(settings.vapi_public_api_key, CredentialType.PUBLIC_KEY, None)
    return lambda: public


def _session_tokens(settings: Settings, clock: Clock) -> IssueCredential:
    """Return the function that signs session tokens (Vapi's JWT authentication).

    A token is restricted to one assistant, and to the web origins if any are listed. The tokens of
    one second are identical, so one is signed for all of them.
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

"""The credential that an app starts its session with: the public key, or a session token."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

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


IssueCredential = Callable[[str], Credential]
"""Returns the credential for one request for an assistant id."""

_MAX_CACHED: Final = 256
"""More than the assistants that there can be."""


def make_credential_issuer(settings: Settings, clock: Clock) -> IssueCredential:
    """Return the function that issues credentials of the configured type."""
    if settings.vapi_credential == CredentialType.SESSION_TOKEN:
        return _session_tokens(settings, clock)
    public = Credential(settings.vapi_public_api_key, CredentialType.PUBLIC_KEY, None)
    return lambda _: public


def _session_tokens(settings: Settings, clock: Clock) -> IssueCredential:
    """Return the function that signs session tokens (Vapi's JWT authentication).

    A token is restricted to one assistant, and to the web origins if any are listed. The tokens of
    one second for one assistant are identical, so one is signed for all of them.
    """
    origins = list(settings.vapi_allowed_origins)

    @lru_cache(maxsize=_MAX_CACHED)
    def issue_at(now: int, assistant_id: str) -> Credential:
        expires_at = now + settings.vapi_token_ttl_seconds
        restrictions: dict[str, object] = {
            "enabled": True,
            "allowedAssistantIds": [assistant_id],
            "allowTransientAssistant": False,
            **({"allowedOrigins": origins} if origins else {}),
        }
        grant = {"tag": "public", "restrictions": restrictions}
        claims = {"orgId": settings.vapi_org_id, "token": grant, "iat": now, "exp": expires_at}
        token = jwt.encode(claims, settings.vapi_api_key, algorithm="HS256")
        return Credential(token, CredentialType.SESSION_TOKEN, rfc3339(expires_at))

    return lambda assistant_id: issue_at(int(clock()), assistant_id)

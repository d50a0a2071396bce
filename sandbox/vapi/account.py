"""One Vapi organization: which credentials it accepts, and what they allow."""

from dataclasses import dataclass
from hmac import compare_digest

import jwt
import msgspec

from sandbox.vapi.call_request import CallRequest
from sandbox.vapi.errors import INVALID_KEY, TOKEN_MISSING, Refusal


class Restrictions(msgspec.Struct, frozen=True, rename="camel"):
    """The limits of a public credential; None means no limit."""

    enabled: bool = True
    allowed_origins: tuple[str, ...] | None = None
    allowed_assistant_ids: tuple[str, ...] | None = None
    allow_transient_assistant: bool = True

    def check(self, call: CallRequest, origin: str) -> None:
        """Raise Refusal when the call is not allowed."""
        if self.allowed_origins is not None and origin not in self.allowed_origins:
            raise Refusal(403, f"Key doesn't allow origin '{origin}'")
        allowed = self.allowed_assistant_ids
        # A list of assistants excludes transient ones, whatever the other field is.
        transient = self.allow_transient_assistant and allowed is None
        if call.assistant is not None and not transient:
            raise Refusal(403, "Key doesn't allow transient assistant")
        if (
            call.assistant_id is not None
            and allowed is not None
            and call.assistant_id not in allowed
        ):
            raise Refusal(403, f"Key doesn't allow assistantId '{call.assistant_id}'")


class _Token(msgspec.Struct, frozen=True):
    tag: str
    restrictions: Restrictions = Restrictions()


class _Claims(msgspec.Struct, frozen=True, rename="camel"):
    org_id: str
    token: _Token | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """An accepted public credential: its type, as the service names it, and its limits."""

    credential_type: str
    restrictions: Restrictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The organization's two keys and its assistants."""

    private_key: str
    public_key: str
    org_id: str
    assistant_ids: frozenset[str]

    def require_private(self, credential: str) -> None:
        """Raise Refusal unless this is the private key or a JWT with the tag `private`."""
        if not _equal(credential, self.private_key):
            self._token(credential, tag="private")

    def grant(self, credential: str) -> Grant:
        """Accept the public key or a JWT with the tag `public`. Raises Refusal."""
        if _equal(credential, self.public_key):
            return Grant("public_key", Restrictions())
        return Grant("session_token", self._token(credential, tag="public").restrictions)

    def _token(self, credential: str, *, tag: str) -> _Token:
        claims = self._claims(credential)
        if claims.token is None:
            raise Refusal(403, TOKEN_MISSING)
        token = claims.token
        if claims.org_id != self.org_id or token.tag != tag or not token.restrictions.enabled:
            raise Refusal(401, INVALID_KEY)
        return token

    def _claims(self, credential: str) -> _Claims:
        try:
            claims = jwt.decode(credential, self.private_key, algorithms=["HS256"])
            return msgspec.convert(claims, _Claims)
        except (jwt.InvalidTokenError, msgspec.ValidationError) as error:
            raise Refusal(401, INVALID_KEY) from error


def _equal(one: str, other: str) -> bool:
    return compare_digest(one.encode(), other.encode())

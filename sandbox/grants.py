"""Decides, as Vapi does, whether a credential may start the web call it is sent with."""

from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

import jwt
import msgspec

INVALID_KEY = (
    "Invalid Key. Hot tip, you may be using the private key instead of the public key,"
    " or vice versa."
)
NO_ASSISTANT = "Couldn't Get Assistant. Need Either `assistant` Or `assistantId`."


class Refusal(Exception):  # noqa: N818  an answer, not a defect
    """An answer other than success, in Vapi's words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Restrictions(msgspec.Struct, frozen=True, rename="camel"):
    """The part of a session token that narrows what it is good for."""

    enabled: bool = True
    allowed_assistant_ids: tuple[str, ...] | None = None
    allow_transient_assistant: bool = True
    allowed_origins: tuple[str, ...] | None = None


class _Token(msgspec.Struct, frozen=True):
    tag: str
    restrictions: Restrictions = Restrictions()


class _Claims(msgspec.Struct, frozen=True, rename="camel"):
    org_id: str
    token: _Token


class CallRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What a request for a web call names; Vapi's other fields do not matter here."""

    assistant_id: str | None = None
    assistant: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One Vapi organisation: its two keys and its one assistant."""

    private_key: str
    public_key: str
    org_id: str
    assistant_id: str

    def require_private(self, credential: str) -> None:
        """Refuse everything but the private key."""
        if not _same(credential, self.private_key):
            raise Refusal(401, INVALID_KEY)

    def grant(self, credential: str, call: CallRequest, origin: str) -> str:
        """Return the kind of credential that allows the call, or refuse."""
        if _same(credential, self.public_key):
            kind, limits = "public_key", Restrictions()
        else:
            kind, limits = "session_token", self._restrictions(credential)
        _check_origin(limits, origin)
        _check_assistant(limits, call)
        if call.assistant is None and call.assistant_id != self.assistant_id:
            raise Refusal(400, NO_ASSISTANT)
        return kind

    def _restrictions(self, token: str) -> Restrictions:
        claims = self._claims(token)
        limits = claims.token.restrictions
        if claims.org_id != self.org_id or claims.token.tag != "public" or not limits.enabled:
            raise Refusal(401, INVALID_KEY)
        return limits

    def _claims(self, token: str) -> _Claims:
        try:
            claims = jwt.decode(token, self.private_key, algorithms=["HS256"])
            return msgspec.convert(claims, _Claims)
        except (jwt.InvalidTokenError, msgspec.ValidationError) as error:
            raise Refusal(401, INVALID_KEY) from error


def _same(one: str, other: str) -> bool:
    return compare_digest(one.encode(), other.encode())


def _check_origin(limits: Restrictions, origin: str) -> None:
    if limits.allowed_origins is not None and origin not in limits.allowed_origins:
        raise Refusal(403, f"Key doesn't allow origin '{origin}'")


def _check_assistant(limits: Restrictions, call: CallRequest) -> None:
    named = limits.allowed_assistant_ids
    # A list of assistants rules out transient ones, whatever the other field says.
    if call.assistant is not None and (named is not None or not limits.allow_transient_assistant):
        raise Refusal(403, "Key doesn't allow transient assistant")
    if call.assistant_id is not None and named is not None and call.assistant_id not in named:
        raise Refusal(403, f"Key doesn't allow assistantId '{call.assistant_id}'")

"""The token that `check --token` explains, and the values that its rules read from the token."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from middlewares.api_errors import ApiError
from middlewares.authentication import bearer_token
from middlewares.request_context import Principal
from server.auth.aiohttp_jwt_adapter import Decoder
from server.auth.claims import ClaimRules, Claims
from server.auth.jws import base64url_decode, read_header
from server.auth.jwt_decode import read_claims
from server.auth.keys.provider import KeyProvider
from server.config import Settings


class NotCheckedError(Exception):
    """A rule is not checked; the message has the reason."""


@dataclass(frozen=True, slots=True)
class CheckedToken:
    """A token, and what the service checks it against.

    `keys` must check signatures only: issuer and audience are rules of their own here.
    `is_revoked` returns None when that is unknown; it is None without a revocation list. `now` is
    in seconds since the epoch.
    """

    token: str
    settings: Settings
    keys: KeyProvider
    rules: ClaimRules
    is_revoked: Callable[[Principal], Awaitable[bool | None]] | None
    now: float

    def compact(self) -> str:
        """Return the token. Raises `NotCheckedError` when it is not a compact JWS."""
        try:
            return bearer_token([f"Bearer {self.token}"])
        except ApiError:
            raise NotCheckedError("the token is not a compact JWS") from None

    def claims(self) -> Claims:
        """Return the claims, which may be unverified. Raises `NotCheckedError` without claims."""
        payload = self.compact().split(".")[1]
        try:
            return read_claims(base64url_decode(payload.encode()))
        except (ApiError, ValueError):
            raise NotCheckedError("the claims cannot be read") from None

    def principal(self, token_id: str | None = None) -> Principal:
        """Return the principal without dates, which have a rule of their own."""
        return self.rules.describe(self.claims(), token_id, 0, 0)

    async def decoder(self) -> Decoder:
        """Return the decoder that the header selects. Raises `ApiError` without a key."""
        segment = self.compact().partition(".")[0]
        try:
            header = read_header(segment)
        except ApiError:
            raise NotCheckedError("the header is not accepted") from None
        return await self.keys.decoder(header.algorithm, header.key_id)

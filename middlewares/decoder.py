"""aiohttp-jwt, made to hold: one key, the contract's errors, no trace in the log.

aiohttp-jwt decodes inside a middleware. Here that middleware is given, in place of a request, a
carrier of the token alone, and in place of a handler one that hands the claims back. So its own
reading of the header, its string key on the request and its `except` around other people's
handlers never come into play.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp_jwt.middleware
import jwt.exceptions
from aiohttp import web

from middlewares.catalogue import ApiError
from middlewares.claims import Claims, invalid
from middlewares.verification_key import VerificationKey

log = logging.getLogger(__name__)

Decoder = Callable[[str], Awaitable[Claims]]
"""Takes a compact JWS, gives its claims once its signature, issuer and audience hold.

Raises `ApiError` AUTH_TOKEN_INVALID. The dates are left to `ClaimRules`.
"""

_SECOND_LOOK: Final = (
    jwt.ExpiredSignatureError,
    jwt.ImmatureSignatureError,
    jwt.InvalidAudienceError,
    jwt.exceptions.InvalidSubjectError,
    jwt.exceptions.InvalidJTIError,
)
"""Refusals that aiohttp-jwt cannot be told to think over: it knows no leeway, takes text for a
date, refuses any audience when none is asked for, and wants `sub` and `jti` to be strings."""

_UNREAD: Final[Any] = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "sub", "jti")}
"""PyJWT's options that leave these claims to `ClaimRules`."""

_REASONS: Final[dict[type[Exception], str]] = {
    jwt.InvalidIssuerError: "The token comes from another issuer",
    jwt.InvalidAudienceError: "The token is meant for another audience",
    jwt.MissingRequiredClaimError: "The token lacks a claim that is required here (iss or aud)",
}


class _Carrier(dict[str, Any]):
    """What aiohttp-jwt is given for a request: a method, a place for the claims, the token."""

    method = "POST"

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token


def _not_ours(record: logging.LogRecord) -> bool:
    """Keep aiohttp-jwt's stack traces out of the log for tokens decoded here, and only for those:
    a host application may use the library too.
    """
    trace = record.exc_info[2] if record.exc_info else None
    return trace is None or not isinstance(trace.tb_frame.f_locals.get("request"), _Carrier)


logging.getLogger(aiohttp_jwt.middleware.__name__).addFilter(_not_ours)


async def _hand_back(carrier: _Carrier) -> Claims:
    claims: Claims = carrier["claims"]
    return claims


def _make_middleware(key: VerificationKey, **checks: Any) -> Any:
    # Making it sets a global that login_required reads in a host application: it is put back.
    before = aiohttp_jwt.middleware._request_property  # noqa: SLF001  there is no other way to it
    middleware = aiohttp_jwt.JWTMiddleware(
        key,
        request_property="claims",
        token_getter=lambda carrier: carrier.token,
        **checks,
    )
    aiohttp_jwt.middleware._request_property = before  # noqa: SLF001  as above
    return middleware


def make_decoder(
    algorithm: str,
    key: object,
    *,
    issuer: str | None = None,
    audience: str | None = None,
) -> Decoder:
    """Make the decoder of one prepared key and the one algorithm it is used with.

    None for `issuer` or `audience` leaves the claim unchecked.
    """
    prepared = VerificationKey(algorithm, key)
    decode = _make_middleware(prepared, algorithms=[algorithm], audience=audience, issuer=issuer)

    def look_again(token: str) -> Claims:
        """Verify anew with PyJWT itself, which can be told what to leave to `ClaimRules`."""
        try:
            return jwt.decode(
                token,
                prepared,
                algorithms=[algorithm],
                audience=audience,
                issuer=issuer,
                options=_UNREAD | {"verify_aud": bool(audience)},
            )
        except jwt.InvalidTokenError as error:
            raise _refusal(error) from None

    async def decoder(token: str) -> Claims:
        try:
            claims: Claims = await decode(_Carrier(token), _hand_back)
            return claims
        except ApiError:
            raise
        except Exception as error:
            cause = error.__context__
            if not isinstance(error, web.HTTPException) and not isinstance(cause, jwt.PyJWTError):
                log.exception("a token was refused for a reason that nobody foresaw")
        if isinstance(cause, _SECOND_LOOK):
            return look_again(token)
        raise _refusal(cause)

    return decoder


def _refusal(cause: BaseException | None) -> ApiError:
    reasons = (reason for kind, reason in _REASONS.items() if isinstance(cause, kind))
    return invalid(next(reasons, "The token is malformed"))

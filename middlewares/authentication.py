"""Authentication: the bearer token of the request (RFC 6750 section 2.1), and its principal."""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.context import PRINCIPAL, Principal
from middlewares.errors import ApiError, ErrorCode, Reason

MAX_TOKEN_BYTES: Final = 16000

_SEGMENT = "[A-Za-z0-9_-]+"
_CREDENTIALS: Final = re.compile(f"[A-Za-z]+ +({_SEGMENT}\\.{_SEGMENT}\\.{_SEGMENT})")

Authenticate = Callable[[str], Awaitable[Principal]]
"""Verifies a compact JWS and returns its principal. Raises `ApiError` for an invalid token."""


def authentication(*, authenticate: Authenticate) -> Middleware:
    """Set the `Principal` of each request; reject a request without a valid token."""

    @web.middleware
    async def authentication_middleware(
        request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        token = bearer_token(request.headers.getall(hdrs.AUTHORIZATION, ()))
        request[PRINCIPAL] = await authenticate(token)
        return await handler(request)

    return authentication_middleware


def bearer_token(values: Sequence[str]) -> str:
    """Return the token from the values of all `Authorization` headers, as `token_of` does."""
    return token_of(values, ("Bearer",))


def token_of(values: Sequence[str], schemes: Collection[str]) -> str:
    """Return the token from the values of all `Authorization` headers.

    Raises `ApiError`: AUTH_TOKEN_MISSING without a header, INVALID_REQUEST for several (RFC 6750
    section 3.1), AUTH_TOKEN_INVALID for anything but one of the schemes and a compact JWS of three
    segments.
    """
    offer = " or ".join(f"{scheme} <JWT>" for scheme in schemes)
    if not values:
        details = f"Send the patient's token: Authorization: {offer}"
        raise ApiError(ErrorCode.AUTH_TOKEN_MISSING, details)
    if len(values) > 1:
        raise ApiError(ErrorCode.INVALID_REQUEST, "Send exactly one Authorization header")
    match = _CREDENTIALS.fullmatch(values[0])
    is_accepted = scheme_of(values[0]) in {scheme.lower() for scheme in schemes}
    if match is None or not is_accepted:
        raise ApiError(
            ErrorCode.AUTH_TOKEN_INVALID,
            f"Authorization must be: {offer}, a compact JWS of three base64url segments",
            reason=Reason.FORMAT if is_accepted else Reason.SCHEME,
        )
    token = match[1]
    if len(token) > MAX_TOKEN_BYTES:
        raise ApiError(
            ErrorCode.AUTH_TOKEN_INVALID,
            f"The token is longer than {MAX_TOKEN_BYTES} bytes",
            reason=Reason.FORMAT,
        )
    return token


def scheme_of(value: str) -> str:
    """Return the scheme of an `Authorization` header in lower case (RFC 9110 section 11.1)."""
    return value.partition(" ")[0].lower()

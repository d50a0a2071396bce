"""Who is calling: a strict reading of `Authorization` (RFC 6750 section 2.1), then the token."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.context import PRINCIPAL, Principal

MAX_TOKEN_BYTES: Final = 8000

_SEGMENT = "[A-Za-z0-9_-]+"
_BEARER: Final = re.compile(f"[Bb][Ee][Aa][Rr][Ee][Rr] +({_SEGMENT}\\.{_SEGMENT}\\.{_SEGMENT})")

Verify = Callable[[str], Awaitable[Principal]]
"""Takes a compact JWS, gives the caller it proves; raises `ApiError` when it proves none."""


def authentication(*, verify: Verify) -> Middleware:
    """Record the `Principal` of each request; a request without one goes no further."""

    @web.middleware
    async def authentication_middleware(
        request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        token = bearer_token(request.headers.getall(hdrs.AUTHORIZATION, ()))
        request[PRINCIPAL] = await verify(token)
        return await handler(request)

    return authentication_middleware


def bearer_token(values: Sequence[str]) -> str:
    """Take the token out of the values of all `Authorization` headers.

    Raises `ApiError`: AUTH_TOKEN_MISSING for none, INVALID_REQUEST for several (RFC 6750
    section 3.1), AUTH_TOKEN_INVALID for anything but `Bearer` and a compact JWS of three segments.
    """
    if not values:
        raise ApiError(
            ErrorCode.AUTH_TOKEN_MISSING, "Send the patient's token: Authorization: Bearer <JWT>"
        )
    if len(values) > 1:
        raise ApiError(ErrorCode.INVALID_REQUEST, "Send exactly one Authorization header")
    match = _BEARER.fullmatch(values[0])
    if match is None:
        raise ApiError(
            ErrorCode.AUTH_TOKEN_INVALID,
            "Authorization must read: Bearer <JWT>, a compact JWS of three base64url segments",
        )
    token = match[1]
    if len(token) > MAX_TOKEN_BYTES:
        raise ApiError(
            ErrorCode.AUTH_TOKEN_INVALID, f"The token is longer than {MAX_TOKEN_BYTES} bytes"
        )
    return token

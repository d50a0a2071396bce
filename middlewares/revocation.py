"""Turns away tokens and patients whose access was ended before the token ran out."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.context import PRINCIPAL, Principal

IsRevoked = Callable[[Principal], Awaitable[bool]]
"""Asks the revocation list; raises `ApiError` AUTH_UNAVAILABLE when it cannot be asked."""


def revocation(*, is_revoked: IsRevoked) -> Middleware:
    """Refuse a revoked token or patient with AUTH_TOKEN_REVOKED."""

    @web.middleware
    async def revocation_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if await is_revoked(request[PRINCIPAL]):
            raise ApiError(ErrorCode.AUTH_TOKEN_REVOKED, "Sign in again to get a new token")
        return await handler(request)

    return revocation_middleware

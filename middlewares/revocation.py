"""Revocation: rejects tokens and patients whose access ended before the token expired."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from middlewares.context import PRINCIPAL, Principal
from middlewares.errors import ApiError, ErrorCode

IsRevoked = Callable[[Principal], Awaitable[bool]]
"""Looks up a principal. Raises `ApiError` AUTH_UNAVAILABLE when the list cannot be read."""


def revocation(*, is_revoked: IsRevoked) -> Middleware:
    """Reject a revoked token or patient with `ApiError` AUTH_TOKEN_REVOKED."""

    @web.middleware
    async def revocation_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if await is_revoked(request[PRINCIPAL]):
            raise ApiError(ErrorCode.AUTH_TOKEN_REVOKED, "Sign in again to get a new token")
        return await handler(request)

    return revocation_middleware

"""Revocation: rejects tokens and patients whose access ended before the token expired."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from middlewares.context import ACCESS, PRINCIPAL, Access, Principal
from middlewares.errors import ApiError, ErrorCode

CheckAccess = Callable[[Principal], Awaitable[Access]]
"""Looks up a principal. Raises `ApiError` AUTH_UNAVAILABLE when the list cannot be read."""


def revocation(*, check_access: CheckAccess) -> Middleware:
    """Reject a revoked token or patient with `ApiError` AUTH_TOKEN_REVOKED; set `ACCESS`."""

    @web.middleware
    async def revocation_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[ACCESS] = access = await check_access(request[PRINCIPAL])
        if access.revoked:
            raise ApiError(ErrorCode.AUTH_TOKEN_REVOKED, "Sign in again to get a new token")
        return await handler(request)

    return revocation_middleware

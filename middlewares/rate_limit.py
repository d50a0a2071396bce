"""The rate limit: each patient may start a limited number of sessions in a period."""

from collections.abc import Awaitable, Callable
from math import ceil

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from middlewares.context import ACCESS, PATIENT_ID
from middlewares.errors import ApiError, ErrorCode

AcquireRateLimit = Callable[[str], Awaitable[float | None]]
"""Counts a request of a patient id. Returns None within the limit, else the seconds to wait."""


def rate_limit(*, acquire: AcquireRateLimit, has_access: bool = False) -> Middleware:
    """Reject a request over the limit with `ApiError` RATE_LIMITED and `Retry-After`.

    `has_access` says that `revocation` comes before: what that has counted is not counted again.
    """

    @web.middleware
    async def rate_limit_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        access = request[ACCESS] if has_access else None
        if access is not None and access.counted:
            wait = access.wait
        else:
            wait = await acquire(request[PATIENT_ID])
        if wait is not None:
            seconds = max(1, ceil(wait))
            details = f"Try again in {seconds} seconds"
            raise ApiError(ErrorCode.RATE_LIMITED, details, retry_after=seconds)
        return await handler(request)

    return rate_limit_middleware

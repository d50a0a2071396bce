"""Holds each patient to so many sessions in a time."""

from collections.abc import Awaitable, Callable
from math import ceil

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.context import PATIENT_ID

Hit = Callable[[str], Awaitable[float | None]]
"""Counts a request of a patient: None when it is within the limit, else the seconds to wait."""


def rate_limit(*, hit: Hit) -> Middleware:
    """Refuse a patient who asks too often, and say when to ask again."""

    @web.middleware
    async def rate_limit_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        wait = await hit(request[PATIENT_ID])
        if wait is not None:
            seconds = max(1, ceil(wait))
            details = f"Try again in {seconds} seconds"
            raise ApiError(ErrorCode.RATE_LIMITED, details, retry_after=seconds)
        return await handler(request)

    return rate_limit_middleware

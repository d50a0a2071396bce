"""The budget: no request is worked on longer than it."""

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.context import RECEIVING


def deadline(*, seconds: float) -> Middleware:
    """Cancel the work below after so many seconds.

    Raises `ApiError`: REQUEST_TIMEOUT when the client was still sending, else SESSION_TIMEOUT.
    """
    if seconds <= 0:
        raise ValueError("seconds must be positive")

    @web.middleware
    async def deadline_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            async with asyncio.timeout(seconds) as budget:
                return await handler(request)
        except TimeoutError as error:
            if not budget.expired():  # somebody else's time-out, and a fault of ours
                raise
            raise _out_of_time(request, seconds) from error

    return deadline_middleware


def _out_of_time(request: web.Request, seconds: float) -> ApiError:
    if request.get(RECEIVING):
        details = f"The request body did not arrive within {seconds:g} seconds"
        return ApiError(ErrorCode.REQUEST_TIMEOUT, details, close=True)
    return ApiError(ErrorCode.SESSION_TIMEOUT, f"No answer within {seconds:g} seconds; try again")

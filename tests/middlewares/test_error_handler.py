"""The error handler: exceptions become error responses."""

import asyncio
import json
from typing import NoReturn

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from middlewares.context import CONTEXT
from middlewares.errors import ERRORS, ApiError, ErrorCode, error_handler
from tests.middlewares.support import Alone, send_raw

SECRET = "a-secret"


def raising(error: BaseException) -> Handler:
    async def handler(_: web.Request) -> NoReturn:
        raise error

    return handler


@pytest.mark.parametrize("code", ErrorCode)
async def test_api_error_becomes_its_envelope(alone: Alone, code: ErrorCode) -> None:
    error = ApiError(code, "the details", headers={"X-More": "1"}, retry_after=7)
    client = await alone(error_handler(), handler=raising(error))
    async with client.post("/") as response:
        assert response.status == ERRORS[code].status
        assert await response.json() == {
            "success": False,
            "error": {
                "code": code.value,
                "message": ERRORS[code].message,
                "details": "the details",
            },
        }
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        assert response.headers.get("WWW-Authenticate") == ERRORS[code].challenge
        assert (response.headers["X-More"], response.headers["Retry-After"]) == ("1", "7")
        assert response.headers.get("Connection") != "close"


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (web.HTTPNotFound(), 404, ErrorCode.NOT_FOUND),
        (web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2), 413, "PAYLOAD_TOO_LARGE"),
        (web.HTTPBadRequest(reason=SECRET), 400, ErrorCode.INVALID_REQUEST),
        (web.HTTPForbidden(text=SECRET), 400, ErrorCode.INVALID_REQUEST),
        (web.HTTPExpectationFailed(text=SECRET), 400, ErrorCode.INVALID_REQUEST),
        (web.HTTPFound(SECRET), 400, ErrorCode.INVALID_REQUEST),
        (web.HTTPInternalServerError(reason=SECRET), 500, ErrorCode.INTERNAL_ERROR),
        (web.HTTPServiceUnavailable(headers={"X-Inner": SECRET}), 500, "INTERNAL_ERROR"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_aiohttp_exception_is_converted_without_its_text(
    alone: Alone, raised: web.HTTPException, status: int, code: str
) -> None:
    client = await alone(error_handler(), handler=raising(raised))
    response = await send_raw(client)
    assert response.status == status
    error = json.loads(response.body)["error"]
    assert (error["code"], error["details"]) == (code, ERRORS[ErrorCode(code)].message)
    assert SECRET.encode() not in response.head + response.body


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ApiError(ErrorCode.FORBIDDEN, "no"), "FORBIDDEN"),
        (web.HTTPNotFound(), "NOT_FOUND"),
        (RuntimeError(), "INTERNAL_ERROR"),
        (TimeoutError(), "INTERNAL_ERROR"),
        (None, None),
    ],
)
async def test_error_code_is_recorded_for_outer_middlewares(
    alone: Alone, raised: Exception | None, code: str | None
) -> None:
    codes: list[str | None] = []

    @web.middleware
    async def outer(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        codes.append(request[CONTEXT].error_code)
        return response

    options = {"handler": raising(raised)} if raised else {}
    await send_raw(await alone(outer, error_handler(), **options))
    assert codes == [code]


async def test_cancellation_passes(alone: Alone) -> None:
    started, passed = asyncio.Event(), asyncio.Event()

    @web.middleware
    async def outer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except asyncio.CancelledError:
            passed.set()
            raise

    async def forever(_: web.Request) -> NoReturn:
        started.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    client = await alone(outer, error_handler(), handler=forever)
    _, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: here\r\n\r\n")
    await started.wait()
    writer.close()
    await passed.wait()

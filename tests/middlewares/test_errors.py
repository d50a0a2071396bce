"""The table of error codes, and the handler that makes responses of exceptions."""

import re
from pathlib import Path
from typing import NoReturn

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from middlewares.context import CONTEXT
from middlewares.errors import ERRORS, ApiError, ErrorCode, error_handler
from tests.middlewares.support import Alone, send_raw

REALM = 'Bearer realm="vapi-sessions"'
INVALID_TOKEN = f'{REALM}, error="invalid_token"'
SCOPE = f'{REALM}, error="insufficient_scope"'

TABLE = [
    ("INVALID_REQUEST", 400, "The request is malformed", None),
    ("INVALID_PATIENT_CONTEXT", 400, "The patient context is invalid", None),
    ("AUTH_TOKEN_MISSING", 401, "An access token is required", REALM),
    ("AUTH_TOKEN_INVALID", 401, "The access token is invalid", INVALID_TOKEN),
    ("AUTH_TOKEN_EXPIRED", 401, "The access token has expired", INVALID_TOKEN),
    ("AUTH_TOKEN_REVOKED", 401, "The access token has been revoked", INVALID_TOKEN),
    ("FORBIDDEN", 403, "Access denied", None),
    ("INSUFFICIENT_SCOPE", 403, "The access token lacks a scope", SCOPE),
    ("PATIENT_MISMATCH", 403, "The token belongs to another patient", None),
    ("ASSISTANT_NOT_ALLOWED", 403, "The assistant is not available", None),
    ("CONSENT_REQUIRED", 403, "A required consent is missing", None),
    ("NOT_FOUND", 404, "No such path", None),
    ("METHOD_NOT_ALLOWED", 405, "This path does not take that method", None),
    ("REQUEST_TIMEOUT", 408, "The request took too long to arrive", None),
    ("PAYLOAD_TOO_LARGE", 413, "The request body is too large", None),
    ("UNSUPPORTED_MEDIA_TYPE", 415, "The request body must be JSON", None),
    ("RATE_LIMITED", 429, "Too many voice sessions requested", None),
    ("CALL_LIMIT_REACHED", 429, "No more calls for this patient now", None),
    ("INTERNAL_ERROR", 500, "Something went wrong on our side", None),
    ("VAPI_SESSION_FAILED", 503, "Unable to create voice session", None),
    ("AUTH_UNAVAILABLE", 503, "Access tokens cannot be checked right now", None),
    ("AUDIT_UNAVAILABLE", 503, "The audit log cannot be written right now", None),
    ("SESSION_TIMEOUT", 504, "The voice session could not be created in time", None),
]
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "errors.md"


def test_definition_of_each_code() -> None:
    assert [
        (code, ERRORS[code].status, ERRORS[code].message, ERRORS[code].challenge)
        for code in ErrorCode
    ] == TABLE
    assert set(ERRORS) == set(ErrorCode)


def test_each_code_has_a_row_and_a_section_in_the_documentation() -> None:
    text = DOCUMENTATION.read_text()
    rows = re.findall(r"^\| (\d+) \| \[`(\w+)`\]\(#(\w+)\) \| \w.* \|$", text, re.MULTILINE)
    assert rows == [(str(status), code, code.lower()) for code, status, *_ in TABLE]
    sections = re.findall(
        r"^## ([A-Z_]+)\n\n\*\*Cause\.\*\* [^#]+\*\*App\.\*\* \S", text, re.MULTILINE
    )
    assert sections == [code for code, *_ in TABLE]


def test_retry_after_is_added_to_the_headers() -> None:
    given = {"Allow": "POST"}
    error = ApiError(ErrorCode.METHOD_NOT_ALLOWED, "no", headers=given, retry_after=0)
    assert (error.headers, given) == ({"Allow": "POST", "Retry-After": "0"}, {"Allow": "POST"})
    assert str(error) == "METHOD_NOT_ALLOWED: no"


SECRET = "a-secret"


def raising(error: BaseException) -> Handler:
    async def handler(_: web.Request) -> NoReturn:
        raise error

    return handler


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
    assert (response.code, response.details) == (code, ERRORS[ErrorCode(code)].message)
    assert SECRET not in str(response)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ApiError(ErrorCode.FORBIDDEN, "no"), "FORBIDDEN"),
        (web.HTTPNotFound(), "NOT_FOUND"),
        (RuntimeError(), "INTERNAL_ERROR"),
    ],
)
async def test_error_code_is_recorded_for_outer_middlewares(
    alone: Alone, raised: Exception, code: str
) -> None:
    codes: list[str | None] = []

    @web.middleware
    async def outer(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        codes.append(request[CONTEXT].error_code)
        return response

    await send_raw(await alone(outer, error_handler(), handler=raising(raised)))
    assert codes == [code]

"""The table of error codes."""

import pytest

from middlewares.api_errors import ERRORS, ApiError, ErrorCode

REALM = 'Bearer realm="vapi-sessions"'
INVALID_TOKEN = f'{REALM}, error="invalid_token"'
SCOPE = f'{REALM}, error="insufficient_scope"'

TABLE = [
    ("INVALID_REQUEST", 400, None),
    ("INVALID_PATIENT_CONTEXT", 400, None),
    ("AUTH_TOKEN_MISSING", 401, REALM),
    ("AUTH_TOKEN_INVALID", 401, INVALID_TOKEN),
    ("AUTH_TOKEN_EXPIRED", 401, INVALID_TOKEN),
    ("AUTH_TOKEN_REVOKED", 401, INVALID_TOKEN),
    ("FORBIDDEN", 403, None),
    ("INSUFFICIENT_SCOPE", 403, SCOPE),
    ("PATIENT_MISMATCH", 403, None),
    ("NOT_FOUND", 404, None),
    ("METHOD_NOT_ALLOWED", 405, None),
    ("REQUEST_TIMEOUT", 408, None),
    ("PAYLOAD_TOO_LARGE", 413, None),
    ("UNSUPPORTED_MEDIA_TYPE", 415, None),
    ("RATE_LIMITED", 429, None),
    ("INTERNAL_ERROR", 500, None),
    ("VAPI_SESSION_FAILED", 503, None),
    ("AUTH_UNAVAILABLE", 503, None),
    ("AUDIT_UNAVAILABLE", 503, None),
    ("SESSION_TIMEOUT", 504, None),
]


@pytest.mark.parametrize(("code", "status", "challenge"), TABLE)
def test_status_and_challenge_of_each_code(code: str, status: int, challenge: str | None) -> None:
    kind = ERRORS[ErrorCode(code)]
    assert (kind.status, kind.challenge) == (status, challenge)


def test_table_is_complete() -> None:
    assert [str(code) for code in ErrorCode] == [code for code, *_ in TABLE]
    assert set(ERRORS) == set(ErrorCode)


def test_messages_are_distinct() -> None:
    messages = [kind.message for kind in ERRORS.values()]
    assert all(messages)
    assert len(set(messages)) == len(messages)


def test_message_of_vapi_session_failed() -> None:
    assert ERRORS[ErrorCode.VAPI_SESSION_FAILED].message == "Unable to create voice session"


def test_retry_after_header() -> None:
    error = ApiError(ErrorCode.RATE_LIMITED, "later", headers={"X-More": "1"}, retry_after=7)
    assert error.headers == {"X-More": "1", "Retry-After": "7"}


def test_retry_after_zero() -> None:
    assert ApiError(ErrorCode.RATE_LIMITED, "later", retry_after=0).headers == {"Retry-After": "0"}


def test_given_headers_are_not_modified() -> None:
    given = {"Allow": "POST"}
    error = ApiError(ErrorCode.METHOD_NOT_ALLOWED, "no", headers=given, retry_after=1)
    assert given == {"Allow": "POST"}
    assert error.headers is not given


def test_defaults() -> None:
    error = ApiError(ErrorCode.FORBIDDEN, "why")
    assert (error.code, error.details, error.headers, error.close) == (
        ErrorCode.FORBIDDEN,
        "why",
        {},
        False,
    )
    assert str(error) == "FORBIDDEN: why"

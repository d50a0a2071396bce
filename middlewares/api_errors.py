"""The table of error codes with their statuses and messages, and the one exception, `ApiError`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiohttp import hdrs

REALM: Final = 'Bearer realm="vapi-sessions"'


class ErrorCode(StrEnum):
    """The codes that clients switch on; `docs/errors.md` documents each."""

    INVALID_REQUEST = "INVALID_REQUEST"
    INVALID_PATIENT_CONTEXT = "INVALID_PATIENT_CONTEXT"
    AUTH_TOKEN_MISSING = "AUTH_TOKEN_MISSING"
    AUTH_TOKEN_INVALID = "AUTH_TOKEN_INVALID"
    AUTH_TOKEN_EXPIRED = "AUTH_TOKEN_EXPIRED"
    AUTH_TOKEN_REVOKED = "AUTH_TOKEN_REVOKED"
    FORBIDDEN = "FORBIDDEN"
    INSUFFICIENT_SCOPE = "INSUFFICIENT_SCOPE"
    PATIENT_MISMATCH = "PATIENT_MISMATCH"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    RATE_LIMITED = "RATE_LIMITED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    VAPI_SESSION_FAILED = "VAPI_SESSION_FAILED"
    AUTH_UNAVAILABLE = "AUTH_UNAVAILABLE"
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    SESSION_TIMEOUT = "SESSION_TIMEOUT"


class Reason(StrEnum):
    """Why a request got 401 or 403, in the audit log and in metrics; never in a response."""

    MISSING = "missing"
    SCHEME = "scheme"
    FORMAT = "format"
    ALGORITHM = "algorithm"
    KEY = "key"
    SIGNATURE = "signature"
    TYPE = "type"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    NOT_YET = "not_yet"
    LIFETIME = "lifetime"
    CLAIMS = "claims"
    REVOKED = "revoked"
    DPOP = "dpop"
    PATIENT = "patient"
    ROLE = "role"
    SCOPE = "scope"
    MISMATCH = "mismatch"
    ASSISTANT = "assistant"
    CONSENT = "consent"


@dataclass(frozen=True, slots=True)
class ErrorDefinition:
    """A row of the error table: HTTP status, message, and RFC 6750 section 3 challenge, if any.

    `reason` is the reason of a 401 or 403 whose `ApiError` names none.
    """

    status: int
    message: str
    challenge: str | None = None
    reason: Reason | None = None


_INVALID_TOKEN: Final = f'{REALM}, error="invalid_token"'

ERRORS: Final[Mapping[ErrorCode, ErrorDefinition]] = {
    ErrorCode.INVALID_REQUEST: ErrorDefinition(400, "The request is malformed"),
    ErrorCode.INVALID_PATIENT_CONTEXT: ErrorDefinition(400, "The patient context is invalid"),
    ErrorCode.AUTH_TOKEN_MISSING: ErrorDefinition(
        401, "An access token is required", REALM, Reason.MISSING
    ),
    ErrorCode.AUTH_TOKEN_INVALID: ErrorDefinition(
        401, "The access token is invalid", _INVALID_TOKEN, Reason.FORMAT
    ),
    ErrorCode.AUTH_TOKEN_EXPIRED: ErrorDefinition(
        401, "The access token has expired", _INVALID_TOKEN, Reason.EXPIRED
    ),
    ErrorCode.AUTH_TOKEN_REVOKED: ErrorDefinition(
        401, "The access token has been revoked", _INVALID_TOKEN, Reason.REVOKED
    ),
    ErrorCode.FORBIDDEN: ErrorDefinition(403, "Access denied", reason=Reason.ROLE),
    ErrorCode.INSUFFICIENT_SCOPE: ErrorDefinition(
        403,
        "The access token lacks a scope",
        f'{REALM}, error="insufficient_scope"',
        Reason.SCOPE,
    ),
    ErrorCode.PATIENT_MISMATCH: ErrorDefinition(
        403, "The token belongs to another patient", reason=Reason.MISMATCH
    ),
    ErrorCode.NOT_FOUND: ErrorDefinition(404, "No such path"),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorDefinition(405, "This path does not take that method"),
    ErrorCode.REQUEST_TIMEOUT: ErrorDefinition(408, "The request took too long to arrive"),
    ErrorCode.PAYLOAD_TOO_LARGE: ErrorDefinition(413, "The request body is too large"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorDefinition(415, "The request body must be JSON"),
    ErrorCode.RATE_LIMITED: ErrorDefinition(429, "Too many voice sessions requested"),
    ErrorCode.INTERNAL_ERROR: ErrorDefinition(500, "Something went wrong on our side"),
    ErrorCode.VAPI_SESSION_FAILED: ErrorDefinition(503, "Unable to create voice session"),
    ErrorCode.AUTH_UNAVAILABLE: ErrorDefinition(503, "Access tokens cannot be checked right now"),
    ErrorCode.AUDIT_UNAVAILABLE: ErrorDefinition(503, "The audit log cannot be written right now"),
    ErrorCode.SESSION_TIMEOUT: ErrorDefinition(
        504, "The voice session could not be created in time"
    ),
}


class ApiError(Exception):
    """A request that is answered with an error of the table.

    `details` is shown to developers. It must not contain a secret, a token, a claim value or
    upstream text. `headers` are added to the response, `retry_after` (seconds) becomes
    `Retry-After`, and `close` closes the connection after the response. `reason` goes into the
    audit line and the metrics; by default it is the reason of the table.
    """

    def __init__(
        self,
        code: ErrorCode,
        details: str,
        *,
        headers: Mapping[str, str] | None = None,
        retry_after: int | None = None,
        close: bool = False,
        reason: Reason | None = None,
    ) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.details = details
        self.headers = dict(headers or {})
        self.close = close
        self.reason = reason or ERRORS[code].reason
        if retry_after is not None:
            self.headers[hdrs.RETRY_AFTER] = str(retry_after)


def internal_error(request_id: str) -> ApiError:
    """Return the error for an unexpected failure; the log has the rest under the request id."""
    return ApiError(ErrorCode.INTERNAL_ERROR, f"Quote request id {request_id} to support")

"""The catalogue of errors: their codes, statuses and messages, and the one exception for all."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiohttp import hdrs

REALM: Final = 'Bearer realm="vapi-sessions"'


class ErrorCode(StrEnum):
    """What an app may switch on; `docs/errors.md` tells what to do about each."""

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
    SESSION_TIMEOUT = "SESSION_TIMEOUT"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """A row of the error table: HTTP status, message, and the challenge of RFC 6750 section 3."""

    status: int
    message: str
    challenge: str | None = None


_INVALID_TOKEN: Final = f'{REALM}, error="invalid_token"'

ERRORS: Final[Mapping[ErrorCode, ErrorKind]] = {
    ErrorCode.INVALID_REQUEST: ErrorKind(400, "The request is malformed"),
    ErrorCode.INVALID_PATIENT_CONTEXT: ErrorKind(400, "The patient context is invalid"),
    ErrorCode.AUTH_TOKEN_MISSING: ErrorKind(401, "An access token is required", REALM),
    ErrorCode.AUTH_TOKEN_INVALID: ErrorKind(401, "The access token is invalid", _INVALID_TOKEN),
    ErrorCode.AUTH_TOKEN_EXPIRED: ErrorKind(401, "The access token has expired", _INVALID_TOKEN),
    ErrorCode.AUTH_TOKEN_REVOKED: ErrorKind(
        401, "The access token has been revoked", _INVALID_TOKEN
    ),
    ErrorCode.FORBIDDEN: ErrorKind(403, "Access denied"),
    ErrorCode.INSUFFICIENT_SCOPE: ErrorKind(
        403, "The access token lacks a scope", f'{REALM}, error="insufficient_scope"'
    ),
    ErrorCode.PATIENT_MISMATCH: ErrorKind(403, "The token belongs to another patient"),
    ErrorCode.NOT_FOUND: ErrorKind(404, "No such path"),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorKind(405, "This path does not take that method"),
    ErrorCode.REQUEST_TIMEOUT: ErrorKind(408, "The request took too long to arrive"),
    ErrorCode.PAYLOAD_TOO_LARGE: ErrorKind(413, "The request body is too large"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorKind(415, "The request body must be JSON"),
    ErrorCode.RATE_LIMITED: ErrorKind(429, "Too many voice sessions requested"),
    ErrorCode.INTERNAL_ERROR: ErrorKind(500, "Something went wrong on our side"),
    ErrorCode.VAPI_SESSION_FAILED: ErrorKind(503, "Unable to create voice session"),
    ErrorCode.AUTH_UNAVAILABLE: ErrorKind(503, "Access tokens cannot be checked right now"),
    ErrorCode.SESSION_TIMEOUT: ErrorKind(504, "The voice session could not be created in time"),
}


class ApiError(Exception):
    """A refusal with a code of the catalogue.

    `details` is read by a developer and may hold no secret, token, claim or upstream text;
    `headers` join the answer's own, `retry_after` (seconds) becomes `Retry-After`;
    `close` ends the connection after the answer.
    """

    def __init__(
        self,
        code: ErrorCode,
        details: str,
        *,
        headers: Mapping[str, str] | None = None,
        retry_after: int | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.details = details
        self.headers = dict(headers or {})
        self.close = close
        if retry_after is not None:
            self.headers[hdrs.RETRY_AFTER] = str(retry_after)

"""The one exception, the one table of error codes, and the one place that writes an error body."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from secrets import token_hex
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.context import CONTEXT
from middlewares.headers import JsonResponse, set_standard_headers

log = logging.getLogger(__name__)

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
    ASSISTANT_NOT_ALLOWED = "ASSISTANT_NOT_ALLOWED"
    CONSENT_REQUIRED = "CONSENT_REQUIRED"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    RATE_LIMITED = "RATE_LIMITED"
    CALL_LIMIT_REACHED = "CALL_LIMIT_REACHED"
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
    ErrorCode.ASSISTANT_NOT_ALLOWED: ErrorDefinition(
        403, "The assistant is not available", reason=Reason.ASSISTANT
    ),
    ErrorCode.CONSENT_REQUIRED: ErrorDefinition(
        403, "A required consent is missing", reason=Reason.CONSENT
    ),
    ErrorCode.NOT_FOUND: ErrorDefinition(404, "No such path"),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorDefinition(405, "This path does not take that method"),
    ErrorCode.REQUEST_TIMEOUT: ErrorDefinition(408, "The request took too long to arrive"),
    ErrorCode.PAYLOAD_TOO_LARGE: ErrorDefinition(413, "The request body is too large"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorDefinition(415, "The request body must be JSON"),
    ErrorCode.RATE_LIMITED: ErrorDefinition(429, "Too many voice sessions requested"),
    ErrorCode.CALL_LIMIT_REACHED: ErrorDefinition(429, "No more calls for this patient now"),
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


_CODE_BY_STATUS: Final = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
}


@lru_cache(maxsize=256)
def _body(code: ErrorCode, details: str) -> bytes:
    """Encode the error envelope. Cached, because few distinct errors make up most traffic."""
    error = {"code": code, "message": ERRORS[code].message, "details": details}
    return msgspec.json.encode({"success": False, "error": error})


def error_response(error: ApiError) -> web.Response:
    """Return the response for an error: the envelope, its status and its headers."""
    definition = ERRORS[error.code]
    challenge = definition.challenge
    headers = {hdrs.WWW_AUTHENTICATE: challenge, **error.headers} if challenge else error.headers
    body = _body(error.code, error.details)
    response = JsonResponse(body, status=definition.status, headers=headers)
    if error.close:
        response.force_close()
    return response


def outer_error_response(details: str | None, error: BaseException | None) -> web.Response:
    """Return the response to what never reached the middlewares, with the standard headers.

    `details` say what is wrong with the request; None means that the service failed, and `error`
    is logged under the request id of the response.
    """
    request_id = token_hex(16)
    if details is None:
        log.error("request failed", exc_info=error, extra={"request_id": request_id})
        response = error_response(internal_error(request_id))
    else:
        log.info("not well-formed HTTP (%s)", type(error).__name__)
        response = error_response(ApiError(ErrorCode.INVALID_REQUEST, details))
    set_standard_headers(response, request_id, 0)
    return response


def _from_aiohttp(error: web.HTTPException) -> ApiError:
    """Convert an exception of aiohttp; of its headers, only `Allow` is kept."""
    fallback = ErrorCode.INVALID_REQUEST if error.status < 500 else ErrorCode.INTERNAL_ERROR
    code = _CODE_BY_STATUS.get(error.status, fallback)
    allow = error.headers.get(hdrs.ALLOW)
    return ApiError(code, ERRORS[code].message, headers={hdrs.ALLOW: allow} if allow else None)


def _respond(request: web.Request, error: ApiError) -> web.Response:
    """Record the code and the reason; return the response.

    The caller passes the exception on without binding it to a local name: a bound exception and
    its traceback would form a reference cycle.
    """
    context = request[CONTEXT]
    context.error_code, context.reason = error.code, error.reason
    return error_response(error)


def error_handler() -> Middleware:
    """Convert every exception of the inner middlewares to a response; cancellation passes."""

    @web.middleware
    async def error_handler_middleware(
        request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return _respond(request, error)
        except web.HTTPException as error:
            return _respond(request, _from_aiohttp(error))
        except Exception:
            context = request[CONTEXT]
            extra = {"request_id": context.request_id, "trace_id": context.trace_id}
            log.exception("request failed", extra=extra)
            return _respond(request, internal_error(context.request_id))

    return error_handler_middleware

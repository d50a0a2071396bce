"""Examples of responses for the OpenAPI document, in the words of the service."""

from collections.abc import Iterable, Mapping
from typing import Final

from middlewares.errors import ERRORS, ErrorCode

Examples = Mapping[str, object]
"""Bodies by the name of the example."""

_DETAILS: Final[Mapping[ErrorCode, str]] = {
    ErrorCode.INVALID_REQUEST: "The body must be a JSON object",
    ErrorCode.INVALID_PATIENT_CONTEXT: "patientContext.id must be a string",
    ErrorCode.AUTH_TOKEN_MISSING: "Send the patient's token: Authorization: Bearer <JWT>",
    ErrorCode.AUTH_TOKEN_INVALID: "The token's signature does not verify",
    ErrorCode.AUTH_TOKEN_EXPIRED: "Refresh the token and try again",
    ErrorCode.AUTH_TOKEN_REVOKED: "Sign in again to get a new token",
    ErrorCode.FORBIDDEN: "Only patients can access voice assistant",
    ErrorCode.INSUFFICIENT_SCOPE: "The token must grant the scope: voice:start",
    ErrorCode.PATIENT_MISMATCH: "patientContext.id is not the patient of the token",
    ErrorCode.ASSISTANT_NOT_ALLOWED: "There is no such assistant for this patient",
    ErrorCode.CONSENT_REQUIRED: "recording@2026-01",
    ErrorCode.NOT_FOUND: "The paths are listed in /openapi.json",
    ErrorCode.METHOD_NOT_ALLOWED: "This path takes POST",
    ErrorCode.REQUEST_TIMEOUT: "The request body did not arrive within 3 seconds",
    ErrorCode.PAYLOAD_TOO_LARGE: "The body is larger than 16384 bytes",
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: "Send the body as Content-Type: application/json, in UTF-8",
    ErrorCode.RATE_LIMITED: "Try again in 12 seconds",
    ErrorCode.CALL_LIMIT_REACHED: "The minutes of the last 24 hours are used up",
    ErrorCode.INTERNAL_ERROR: "Quote request id 7f3b0c5e9d2a4f18 to support",
    ErrorCode.VAPI_SESSION_FAILED: "Vapi service temporarily unavailable",
    ErrorCode.AUTH_UNAVAILABLE: "The revocation list is not available; try again",
    ErrorCode.AUDIT_UNAVAILABLE: "The audit log cannot be written; try again",
    ErrorCode.SESSION_TIMEOUT: "No answer within 3 seconds; try again",
}
_ASSISTANT: Final = "5d3b1b6e-1f0c-4a52-9d61-0d2f5c7e8a90"
_DATA: Final = {
    "apiKey": "0f8c2a4e-6b1d-4c3f-8a27-9e5d7b6c1a34",
    "credentialType": "public_key",
    "expiresAt": None,
    "assistantId": _ASSISTANT,
    "patientContext": {"id": "pt_123", "validatedAt": "2026-01-31T09:30:00.000Z"},
}
_RESTRICTED: Final = {
    "apiKey": "eyJhbGciOiJIUzI1NiJ9.eyJvcmdJZCI6IuKApiJ9.c2lnbmF0dXJl",
    "credentialType": "session_token",
    "expiresAt": "2026-01-31T09:32:00.000Z",
    "patientProof": "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJwdF8xMjMifQ.c2lnbmF0dXJl",
}
_MESSAGE: Final = "Vapi configuration retrieved"
_PARTS: Final = {"vapi": "up", "keys": "ready", "redis": "up", "audit": "up", "calls": "off"}

SESSIONS: Final[Examples] = {
    "public_key": {"success": True, "data": _DATA, "message": _MESSAGE},
    "session_token": {"success": True, "data": _DATA | _RESTRICTED, "message": _MESSAGE},
}
READY: Final[Examples] = {
    "ready": {"status": "ready", "parts": _PARTS},
    "degraded": {"status": "degraded", "parts": _PARTS | {"redis": "down"}},
}
NOT_READY: Final[Examples] = {
    "starting": {"status": "starting", "parts": _PARTS | {"keys": "missing"}},
    "shutting down": {"status": "shutting down", "parts": _PARTS},
}
HEALTHY: Final[Examples] = {"ok": {"status": "ok"}}
DOCUMENT: Final[Examples] = {"document": {"openapi": "3.1.0", "info": {"title": "Vapi sessions"}}}
METRICS: Final = (
    'vapi_sessions_requests_total{code="",reason="",route="session",status="200"} 42.0\n'
)
PROOF_KEYS: Final[Examples] = {
    "one key": {
        "keys": [
            {
                "kty": "EC",
                "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
                "kid": "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U",
                "use": "sig",
                "alg": "ES256",
            }
        ]
    }
}


def errors(codes: Iterable[ErrorCode]) -> dict[str, object]:
    """Return the body of an error response for each code."""
    return {
        code.value: {
            "success": False,
            "error": {
                "code": code.value,
                "message": ERRORS[code].message,
                "details": _DETAILS[code],
            },
        }
        for code in codes
    }

"""The OpenAPI 3.1 document. Its errors come from the table that responses come from."""

from collections import defaultdict
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from middlewares.errors import ERRORS, ErrorCode
from server.api import examples
from server.api.examples import Examples
from server.auth.claims import PATIENT_ID_PATTERN
from server.config.validators import MAX_CONSENTS, NAME_PATTERN
from server.redis.client import RedisState
from server.vapi.health import VapiState

_PATIENT_ID: Final = {"type": "string", "pattern": f"^{PATIENT_ID_PATTERN}$"}
_NAME: Final = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}
_PATIENT_PROOF: Final = {
    "type": "string",
    "description": "A signed proof for the assistant's tools, only with PROOF_KEY: pass it to Vapi "
    "as `assistantOverrides.variableValues.patientProof`, unread.",
}


def _object(required: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": required, "required": list(required), **more}


_PUBLIC_KEY: Final = _object(
    {
        "kty": {"const": "EC"},
        "crv": {"const": "P-256"},
        "x": {"type": "string"},
        "y": {"type": "string"},
        "kid": {"type": "string", "description": "The thumbprint of the key (RFC 7638)."},
        "use": {"const": "sig"},
        "alg": {"const": "ES256"},
    },
    additionalProperties=False,
)


def _readiness() -> dict[str, Any]:
    states = {
        "vapi": [*VapiState],
        "keys": ["ready", "stale", "missing"],
        "redis": ["off", *RedisState],
        "audit": ["up", "blocked", "failing"],
        "calls": ["off", "up", "degraded"],
    }
    statuses = ["starting", "ready", "degraded", "shutting down"]
    parts = _object({name: {"enum": values} for name, values in states.items()})
    return _object({"status": {"enum": statuses}, "parts": parts})


def _session_request() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "patientContext": _object({"id": _PATIENT_ID}),
            "assistant": _NAME | {"description": "An assistant of VAPI_ASSISTANTS."},
            "consent": {
                "type": "object",
                "description": "Versions by name, with CONSENT_REQUIRED.",
                "propertyNames": _NAME,
                "additionalProperties": _NAME,
                "maxProperties": MAX_CONSENTS,
            },
        },
    }


def make_schemas() -> dict[str, Any]:
    """Return the schemas by name."""
    instant = {"type": "string", "format": "date-time"}
    context = _object({"id": _PATIENT_ID, "validatedAt": instant}, additionalProperties=False)
    data = _object(
        {
            "apiKey": {"type": "string", "description": "The key for the Vapi SDK."},
            "credentialType": {"enum": ["public_key", "session_token"]},
            "expiresAt": {"type": ["string", "null"], "format": "date-time"},
            "assistantId": {"type": "string"},
            "patientContext": context,
        },
        additionalProperties=False,
    )
    data["properties"]["patientProof"] = _PATIENT_PROOF
    error = _object(
        {
            "code": {"enum": [*ErrorCode]},
            "message": {"type": "string"},
            "details": {"type": "string"},
        },
        additionalProperties=False,
    )
    return {
        "Session": _object(
            {"success": {"const": True}, "data": data, "message": {"type": "string"}},
            additionalProperties=False,
        ),
        "Error": _object({"success": {"const": False}, "error": error}, additionalProperties=False),
        "SessionRequest": _session_request(),
        "Health": _object({"status": {"const": "ok"}}),
        "Document": {"type": "object"},
        "ProofKeys": _object({"keys": {"type": "array", "items": _PUBLIC_KEY}}),
        "Readiness": _readiness(),
    }


_JSON_HEADERS: Final = ("X-Request-ID", "Server-Timing", "Cache-Control")

_HEADERS: Final[dict[str, str]] = {
    "X-Request-ID": "The id of the request in logs: the client's, if it sent a valid one.",
    "Server-Timing": "`total;dur=` and the duration of the request in milliseconds.",
    "Cache-Control": "`no-store`, except for the keys of patient proofs.",
    "WWW-Authenticate": "The challenge of RFC 6750; with JWT_DPOP, that of RFC 9449.",
    "Retry-After": "Seconds to wait before the next attempt.",
    "Allow": "The methods of the path.",
}
_MORE_HEADERS: Final[dict[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    403: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_SECURITY_SCHEMES: Final[dict[str, dict[str, str]]] = {
    "patientToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "boundToken": {
        "type": "http",
        "scheme": "DPoP",
        "description": "A token that is bound to a key of the app (RFC 9449), with JWT_DPOP.",
    },
    "proof": {
        "type": "apiKey",
        "in": "header",
        "name": "DPoP",
        "description": "A proof for this request, signed with the key of the token.",
    },
}


def _response(schema: str, description: str, bodies: Examples, status: int = 200) -> dict[str, Any]:
    content = {
        "schema": {"$ref": f"#/components/schemas/{schema}"},
        "examples": {name: {"value": body} for name, body in bodies.items()},
    }
    return {**_bare_response(description, status), "content": {"application/json": content}}


def _bare_response(description: str, status: int = 200) -> dict[str, Any]:
    names = (*_JSON_HEADERS, *_MORE_HEADERS.get(status, ()))
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {"description": description, "headers": headers}


def _errors() -> dict[str, Any]:
    """Return the error responses of the endpoint by status, each with its codes."""
    codes: dict[int, list[ErrorCode]] = defaultdict(list)
    for code, kind in ERRORS.items():
        codes[kind.status].append(code)
    del codes[HTTPStatus.NOT_FOUND], codes[HTTPStatus.METHOD_NOT_ALLOWED]
    return {str(status): _error(status, all_) for status, all_ in codes.items()}


def _error(status: int, codes: Sequence[ErrorCode]) -> dict[str, Any]:
    described = " ".join(f"`{code}`: {ERRORS[code].message}." for code in codes)
    return _response("Error", described, examples.errors(codes), status)


def _get(name: str, summary: str, answers: dict[str, Any]) -> dict[str, Any]:
    operation = {"tags": ["Operation"], "operationId": name, "summary": summary}
    return {"get": {**operation, "responses": answers}}


def _header(name: str, description: str) -> dict[str, Any]:
    schema = {"type": "string"}
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _start() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/SessionRequest"}
    # An example that any patient's token fits.
    content = {"application/json": {"schema": schema, "example": {}}}
    session = _response("Session", "The session's configuration.", examples.SESSIONS)
    parameters = [
        _header("X-Request-ID", "1 to 128 characters of `A-Z a-z 0-9 . _ -`; else it is replaced."),
        _header("traceparent", "W3C Trace Context; the trace id is recorded in the audit line."),
    ]
    return {
        "post": {
            "tags": ["Sessions"],
            "operationId": "startVapiSession",
            "summary": "Get the configuration of one voice session",
            "security": [{"patientToken": []}, {"boundToken": [], "proof": []}],
            "parameters": parameters,
            "requestBody": {"required": False, "content": content},
            "responses": {"200": session, **_errors()},
        }
    }


def _metrics() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}, "example": examples.METRICS}}
    metrics = {**_bare_response("The Prometheus text format."), "content": text}
    return {"200": metrics, "404": _absent("Without METRICS_ENABLED=true.")}


def _proof_keys() -> dict[str, Any]:
    described = "A JWK Set (RFC 7517): the first key signs."
    keys = _response("ProofKeys", described, examples.PROOF_KEYS)
    return {"200": keys, "404": _absent("Without PROOF_KEY.")}


def _absent(description: str) -> dict[str, Any]:
    return _response("Error", description, examples.errors([ErrorCode.NOT_FOUND]))


def build_document(path: str) -> dict[str, Any]:
    """Return the description of the endpoint, at `path`, and of the operational routes."""
    readiness = {
        "200": _response(
            "Readiness", "Ready, or degraded: at least one part is failing.", examples.READY
        ),
        "503": _response("Readiness", "Starting, or shutting down.", examples.NOT_READY),
    }
    alive = {"200": _response("Health", "The process responds.", examples.HEALTHY)}
    own = _response("Document", "This document.", examples.DOCUMENT)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Vapi sessions",
            "version": "2.0.0",
            "summary": "A patient's token in, the configuration of one voice session out",
        },
        "paths": {
            path: _start(),
            "/healthz": _get("health", "Liveness", alive),
            "/readyz": _get("readiness", "Readiness", readiness),
            "/openapi.json": _get("document", "This document", {"200": own}),
            "/metrics": _get("metrics", "Metrics, with METRICS_ENABLED=true", _metrics()),
            "/.well-known/jwks.json": _get("proofKeys", "Keys of patient proofs", _proof_keys()),
        },
        "components": {
            "schemas": make_schemas(),
            "headers": {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in _HEADERS.items()
            },
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }

"""The OpenAPI 3.1 document, made from the same table of errors that answers are made from."""

from collections import defaultdict
from http import HTTPStatus
from typing import Any, Final

from middlewares.api_errors import ERRORS
from server.api.openapi_schemas import make_schemas

_JSON_HEADERS: Final = ("X-Request-ID", "Server-Timing", "Cache-Control")

_HEADERS: Final[dict[str, str]] = {
    "X-Request-ID": "The id of the request in logs: the client's own, if it sent a usable one.",
    "Server-Timing": "`total;dur=` with the milliseconds that the answer took.",
    "Cache-Control": "`no-store`; the keys of patient proofs may be cached.",
    "WWW-Authenticate": "The challenge of RFC 6750.",
    "Retry-After": "Seconds until it is worth trying again.",
    "Allow": "The methods that the path takes.",
}
_MORE_HEADERS: Final[dict[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    403: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


def _answer(schema: str, description: str, status: int = 200) -> dict[str, Any]:
    names = (*_JSON_HEADERS, *_MORE_HEADERS.get(status, ()))
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _errors() -> dict[str, Any]:
    """Tell of each status that the endpoint may refuse with, and of its codes."""
    codes: dict[int, list[str]] = defaultdict(list)
    for code, kind in ERRORS.items():
        codes[kind.status].append(f"`{code}`: {kind.message}.")
    del codes[HTTPStatus.NOT_FOUND], codes[HTTPStatus.METHOD_NOT_ALLOWED]
    return {str(status): _answer("Error", " ".join(all_), status) for status, all_ in codes.items()}


def _get(name: str, summary: str, answers: dict[str, Any]) -> dict[str, Any]:
    operation = {"tags": ["Operation"], "operationId": name, "summary": summary}
    return {"get": {**operation, "responses": answers}}


def _start() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/SessionRequest"}}}
    request_id = {
        "name": "X-Request-ID",
        "in": "header",
        "description": "1 to 128 characters of `A-Z a-z 0-9 . _ -`; anything else is replaced.",
        "schema": {"type": "string"},
    }
    return {
        "post": {
            "tags": ["Sessions"],
            "operationId": "startVapiSession",
            "summary": "Get what one voice session needs",
            "security": [{"patientToken": []}],
            "parameters": [request_id],
            "requestBody": {"required": False, "content": content},
            "responses": {"200": _answer("Session", "The session's configuration."), **_errors()},
        }
    }


def _metrics() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    told = {**_answer("Health", "In Prometheus's text format."), "content": text}
    return {"200": told, "404": _answer("Error", "Without METRICS_ENABLED=true.", 404)}


def _proof_keys() -> dict[str, Any]:
    described = _answer("ProofKeys", "A JWK Set (RFC 7517): the first key signs.")
    return {"200": described, "404": _answer("Error", "Without PROOF_KEY.", 404)}


def build_document(path: str) -> dict[str, Any]:
    """Describe the service: its endpoint under `path`, and the operator's routes."""
    ready = {str(status): _answer("Readiness", "Each part's state.") for status in (200, 503)}
    own = _answer("Document", "This document.")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Vapi sessions",
            "version": "1.0.0",
            "summary": "A patient's token in, Vapi configuration out",
        },
        "paths": {
            path: _start(),
            "/healthz": _get("health", "Is it alive", {"200": _answer("Health", "It is.")}),
            "/readyz": _get("readiness", "Can it serve", ready),
            "/openapi.json": _get("document", "This document", {"200": own}),
            "/metrics": _get("metrics", "For Prometheus, with METRICS_ENABLED=true", _metrics()),
            "/.well-known/jwks.json": _get("proofKeys", "Keys of patient proofs", _proof_keys()),
        },
        "components": {
            "schemas": make_schemas(),
            "headers": {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in _HEADERS.items()
            },
            "securitySchemes": {
                "patientToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }

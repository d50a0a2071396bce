"""The schemas of the OpenAPI document."""

from typing import Any, Final

from middlewares.api_errors import ErrorCode
from server.auth.patient_id import PATIENT_ID_PATTERN
from server.redis.state import RedisState
from server.vapi.health import VapiState

_PATIENT_ID: Final = {"type": "string", "pattern": f"^{PATIENT_ID_PATTERN}$"}
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
    }
    statuses = ["starting", "ready", "degraded", "shutting down"]
    parts = _object({name: {"enum": values} for name, values in states.items()})
    return _object({"status": {"enum": statuses}, "parts": parts})


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
        "SessionRequest": {
            "type": "object",
            "properties": {"patientContext": _object({"id": _PATIENT_ID})},
        },
        "Health": _object({"status": {"const": "ok"}}),
        "Document": {"type": "object"},
        "ProofKeys": _object({"keys": {"type": "array", "items": _PUBLIC_KEY}}),
        "Readiness": _readiness(),
    }

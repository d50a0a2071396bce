"""JSON Schemas of the stand-in's answers: the fields that Vapi's SDKs read or Vapi requires.

`REQUIRED BY` names the reader: the OpenAPI document, or an SDK's source. The SDKs' versions are in
docs/clients/symbols.md.
"""

from typing import Any

_UUID = {"type": "string", "format": "uuid"}
# RFC 3339 with milliseconds, as Vapi writes it; the Flutter SDK parses it.
_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
_URL = {"type": "string", "pattern": "^(http|ws)s?://"}

# `Call` of the OpenAPI document requires id, orgId, createdAt and updatedAt. The web, React Native,
# iOS and Android SDKs read webCallUrl and artifactPlan.videoRecordingEnabled; the Flutter SDK casts
# type, monitor, transport and assistantOverrides, and every field of the first two, as non-null.
CALL: dict[str, Any] = {
    "type": "object",
    "required": [
        "id",
        "orgId",
        "createdAt",
        "updatedAt",
        "type",
        "status",
        "assistantOverrides",
        "monitor",
        "transport",
        "webCallUrl",
        "artifactPlan",
    ],
    "properties": {
        "id": _UUID,
        "orgId": _UUID,
        "createdAt": _TIME,
        "updatedAt": _TIME,
        "type": {"const": "webCall"},
        "status": {"const": "queued"},
        "assistantId": _UUID,
        "assistant": {"type": "object"},
        "assistantOverrides": {"type": "object"},
        "webCallUrl": _URL,
        "monitor": {
            "type": "object",
            "required": ["listenUrl", "controlUrl"],
            "properties": {"listenUrl": _URL, "controlUrl": _URL},
        },
        "transport": {
            "type": "object",
            "required": ["provider", "callUrl", "assistantVideoEnabled"],
            "properties": {
                "provider": {"const": "daily"},
                "callUrl": _URL,
                "assistantVideoEnabled": {"type": "boolean"},
                "roomDeleteOnUserLeaveEnabled": {"type": "boolean"},
            },
        },
        "artifactPlan": {
            "type": "object",
            "required": ["videoRecordingEnabled"],
            "properties": {"videoRecordingEnabled": {"type": "boolean"}},
        },
    },
}

# `Assistant` of the OpenAPI document; `OpenAIModel` requires provider and model.
ASSISTANT: dict[str, Any] = {
    "type": "object",
    "required": ["id", "orgId", "createdAt", "updatedAt"],
    "properties": {
        "id": _UUID,
        "orgId": _UUID,
        "createdAt": _TIME,
        "updatedAt": _TIME,
        "name": {"type": "string", "maxLength": 40},
        "model": {
            "type": "object",
            "required": ["provider", "model"],
            "properties": {"provider": {"type": "string"}, "model": {"type": "string"}},
        },
    },
}

# NestJS's envelope; the message is a list when fields are invalid.
ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["message", "error", "statusCode"],
    "properties": {
        "message": {
            "oneOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
            ]
        },
        "error": {"type": "string", "minLength": 1},
        "statusCode": {"type": "integer"},
    },
    "additionalProperties": False,
}

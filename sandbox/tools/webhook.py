"""The webhook of a tool call, as Vapi sends it: the static parameters filled in, and signed."""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_hex
from time import time
from typing import Any, Final

import msgspec

from sandbox.vapi.calls import Call

TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "read_lab_results",
        "description": "Reads the latest lab results of the patient on the call.",
        "parameters": {"type": "object", "properties": {"test": {"type": "string"}}},
    },
    # Vapi adds these to the arguments; the model neither sees nor changes them.
    "parameters": [{"key": "patientProof", "value": "{{patientProof}}"}],
}
_ARGUMENTS: Final = {"test": "cholesterol"}
"""The arguments that the model chose."""

_VARIABLE: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Webhook:
    """A request to a tool server."""

    headers: Mapping[str, str]
    body: bytes


def make_webhook(call: Call, secret: str, *, now: float | None = None) -> Webhook:
    """Return the webhook of a call of `TOOL`, signed with the secret of an HMAC credential."""
    now = time() if now is None else now
    tool_call = {
        "id": f"call_{token_hex(12)}",
        "type": "function",
        "function": {
            "name": TOOL["function"]["name"],
            "arguments": {**_ARGUMENTS, **_static_parameters(call)},
        },
    }
    message = {
        "type": "tool-calls",
        "timestamp": int(now * 1000),
        "toolCallList": [tool_call],
        "toolWithToolCallList": [{**TOOL, "toolCall": tool_call}],
        "call": call,
    }
    body = msgspec.json.encode({"message": message})
    return Webhook(_signature(body, secret, now), body)


def _static_parameters(call: Call) -> dict[str, str]:
    variables = call.assistant_overrides.get("variableValues") or {}

    def fill(match: re.Match[str]) -> str:
        # Vapi leaves a variable without a value as it stands.
        return str(variables.get(match[1], match[0]))

    return {each["key"]: _VARIABLE.sub(fill, each["value"]) for each in TOOL["parameters"]}


def _signature(body: bytes, secret: str, now: float) -> dict[str, str]:
    timestamp = str(int(now))
    signed = f"{timestamp}.".encode() + body
    return {
        "content-type": "application/json",
        "x-timestamp": timestamp,
        "x-signature": hmac.digest(secret.encode(), signed, "sha256").hex(),
    }

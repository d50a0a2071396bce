"""The body of `POST /call/web`: Vapi's fields, and its errors for invalid ones."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from sandbox.vapi.errors import NOTHING_NAMED, Refusal

# The property names are from Vapi's OpenAPI document (version 1.0).

# In `CreateWebCallDTO`: what may be called in place of an assistant, or changes it.
_BEYOND_ASSISTANT = (
    "squad",
    "squadId",
    "squadOverrides",
    "workflow",
    "workflowId",
    "workflowOverrides",
)
# `CreateWebCallDTO`, and `metadata`: the iOS and Android SDKs send it with every call.
_CREATE_WEB_CALL = frozenset(
    {
        "assistant",
        "assistantId",
        "assistantOverrides",
        "assistantVersion",
        "metadata",
        "roomDeleteOnUserLeaveEnabled",
        *_BEYOND_ASSISTANT,
    }
)
# Limits in seconds, least and most. `customerJoinTimeoutSeconds` has a page of its own in Vapi's
# documentation, and is absent from the OpenAPI document.
_LIMITS = {"customerJoinTimeoutSeconds": (1, 60), "maxDurationSeconds": (10, 43_200)}
# `AssistantOverrides`, and `customerJoinTimeoutSeconds`.
ASSISTANT_OVERRIDES = frozenset(
    {
        "analysisPlan",
        "artifactPlan",
        "backgroundSound",
        "backgroundSpeechDenoisingPlan",
        "clientMessages",
        "compliancePlan",
        "credentialIds",
        "credentials",
        "customerJoinTimeoutSeconds",
        "endCallMessage",
        "endCallPhrases",
        "firstMessage",
        "firstMessageInterruptionsEnabled",
        "firstMessageMode",
        "hooks",
        "keypadInputPlan",
        "maxDurationSeconds",
        "metadata",
        "model",
        "modelOutputInMessagesEnabled",
        "monitorPlan",
        "name",
        "observabilityPlan",
        "server",
        "serverMessages",
        "startSpeakingPlan",
        "stopSpeakingPlan",
        "tools:append",
        "transcriber",
        "transportConfigurations",
        "variableValues",
        "voice",
        "voicemailDetection",
        "voicemailMessage",
    }
)


@dataclass(frozen=True, slots=True)
class CallRequest:
    """The body as a JSON object; `assistantId` and `assistant` are None when absent."""

    body: dict[str, Any]

    @property
    def assistant_id(self) -> str | None:
        """The id of the requested assistant, a UUID or not."""
        named = self.body.get("assistantId")
        return None if named is None else str(named)

    @property
    def assistant(self) -> dict[str, Any] | None:
        """The transient assistant."""
        return self.body.get("assistant")

    @property
    def overrides(self) -> dict[str, Any]:
        """The assistant's overrides, `variableValues` among them; empty when absent."""
        return self.body.get("assistantOverrides") or {}

    @property
    def beyond_assistant(self) -> str | None:
        """The first property that names or changes a squad or a workflow, or None."""
        return next((name for name in _BEYOND_ASSISTANT if self.body.get(name) is not None), None)

    def validate(self) -> None:
        """Raise Refusal 400: a list of invalid fields, or that no assistant is named."""
        if faults := [*self._unknown(), *self._mistyped()]:
            raise Refusal(400, faults)
        if self.assistant_id is None and self.assistant is None and self.beyond_assistant is None:
            raise Refusal(400, NOTHING_NAMED)

    def _unknown(self) -> list[str]:
        overrides = self.body.get("assistantOverrides")
        named = overrides if isinstance(overrides, dict) else {}
        return [
            *_should_not_exist("", self.body, _CREATE_WEB_CALL),
            *_should_not_exist("assistantOverrides.", named, ASSISTANT_OVERRIDES),
        ]

    def _mistyped(self) -> list[str]:
        faults = [
            f"nested property {name} must be either object or array"
            for name in ("assistant", "assistantOverrides")
            if not isinstance(self.body.get(name), dict | None)
        ]
        if self.assistant_id is not None and not is_uuid(self.body["assistantId"]):
            faults.append("assistantId must be a UUID")
        if not faults and not isinstance(self.overrides.get("variableValues"), dict | None):
            faults.append("assistantOverrides.variableValues must be an object")
        return faults or [*self._out_of_range()]

    def _out_of_range(self) -> Iterator[str]:
        for part in ("assistant", "assistantOverrides"):
            for name, (least, most) in _LIMITS.items():
                value = (self.body.get(part) or {}).get(name, least)
                if not isinstance(value, int | float) or isinstance(value, bool):
                    yield f"{part}.{name} must be a number"
                elif value < least:
                    yield f"{part}.{name} must not be less than {least}"
                elif value > most:
                    yield f"{part}.{name} must not be greater than {most}"


def parse_call_request(body: bytes) -> CallRequest:
    """Read the body; an empty one is `{}`. Raises Refusal for any other than a JSON object."""
    try:
        return CallRequest(msgspec.json.decode(body or b"{}", type=dict[str, Any]))
    except msgspec.DecodeError as error:
        raise Refusal(400, str(error)) from error


def is_uuid(value: object) -> bool:
    """Return whether this is a UUID in its usual form, with hyphens."""
    try:
        return isinstance(value, str) and str(UUID(value)) == value.lower()
    except ValueError:
        return False


def _should_not_exist(
    path: str, properties: Iterable[str], known: Collection[str]
) -> Iterator[str]:
    return (f"{path}property {name} should not exist" for name in properties if name not in known)

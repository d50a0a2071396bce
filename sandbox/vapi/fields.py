"""The property names of Vapi's request bodies, from its OpenAPI document (version 1.0)."""

# In `CreateWebCallDTO`: what may be called in place of an assistant, or changes it.
BEYOND_ASSISTANT = (
    "squad",
    "squadId",
    "squadOverrides",
    "workflow",
    "workflowId",
    "workflowOverrides",
)
# `CreateWebCallDTO`, and `metadata`: the iOS and Android SDKs send it with every call.
CREATE_WEB_CALL = frozenset(
    {
        "assistant",
        "assistantId",
        "assistantOverrides",
        "assistantVersion",
        "metadata",
        "roomDeleteOnUserLeaveEnabled",
        *BEYOND_ASSISTANT,
    }
)
# Limits in seconds, least and most. `customerJoinTimeoutSeconds` has a page of its own in Vapi's
# documentation, and is absent from the OpenAPI document.
LIMITS = {"customerJoinTimeoutSeconds": (1, 60), "maxDurationSeconds": (10, 43_200)}
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

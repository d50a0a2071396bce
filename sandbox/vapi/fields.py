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
# `AssistantOverrides`.
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

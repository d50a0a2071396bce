"""What an operator should do about each status that Vapi answers a health check with."""

from typing import Final

_ADVICE: Final = {
    None: "check VAPI_BASE_URL, the network and status.vapi.ai",
    400: "VAPI_ASSISTANT_ID is malformed; copy the UUID of an assistant that VAPI_API_KEY may use",
    401: "VAPI_API_KEY is rejected; copy the private key, not the public one, from the dashboard",
    403: "VAPI_API_KEY has no access to the assistant; use a private key without restrictions",
    404: "VAPI_ASSISTANT_ID is unknown in the organization of VAPI_API_KEY; compare the two",
    429: "Vapi limits requests of this organization; wait, or raise VAPI_CHECK_SECONDS",
}


def describe_status(status: int | None) -> str:
    """Return the status and what to do; None means no answer."""
    if status == 200:
        return "200: VAPI_API_KEY is accepted and the assistant exists"
    if status is not None and status not in _ADVICE:
        advice = "Vapi fails; see status.vapi.ai"
        if status < 500:
            advice = "this is not Vapi's API; check VAPI_BASE_URL, and any proxy before it"
        return f"{status}: {advice}"
    return f"{'no answer' if status is None else status}: {_ADVICE[status]}"

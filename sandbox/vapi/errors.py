"""Vapi's error responses, with the statuses and texts of its API.

The texts come from public copies of Vapi's documentation, its support forum and public code that
handles them; docs/vapi.md lists what is known and what is not.
"""

from http import HTTPStatus

from aiohttp import web

from sandbox.serving import answer

INVALID_KEY = (
    "Invalid Key. Hot tip, you may be using the private key instead of the public key,"
    " or vice versa."
)
TOKEN_MISSING = "JWT doesn't permit access. Hot tip, you may be missing `token` in your JWT."
NOTHING_NAMED = (
    "Couldn't Get Assistant. Need Either `assistant`, `assistantId`, `squad`, Or `squadId`."
)
OVER_CONCURRENCY_LIMIT = "Over Concurrency Limit"
# The stand-in's own text: what Vapi answers is unknown.
UNKNOWN_BEHAVIOUR = "Stand-in: what Vapi does with `{}` here is unknown; see docs/vapi.md"
# Where Vapi's text differs from the status's reason phrase.
_TEXTS = {401: INVALID_KEY, 429: "Rate limit exceeded"}


class Refusal(Exception):  # noqa: N818  a response, not a defect
    """An error response; `message` is a text, or a list of texts for invalid fields."""

    def __init__(self, status: int, message: str | list[str]) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def error_response(status: int, message: str | list[str] | None = None) -> web.Response:
    """Return an error response; without a message, it has Vapi's text for the status."""
    reason = HTTPStatus(status).phrase
    text = message or _TEXTS.get(status, reason)
    return answer({"message": text, "error": reason, "statusCode": status}, status)

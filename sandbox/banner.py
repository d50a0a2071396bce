"""The text that development mode prints when it is ready."""

from sandbox.playground import PATH, PATIENTS
from sandbox.tokens import patient_token
from server.app import PATH as START
from server.app import PREFIX
from server.config import Settings

_TEXT = """
  vapi-sessions, in development mode: generated secrets, a stand-in for Vapi, this machine only.

  Start a session (the token is valid for an hour):

curl -sS -w '\\n' -X POST {origin}{path} -H 'Authorization: Bearer {token}'

  Playground       {origin}{playground}
  API              {origin}/docs
  Readiness        {origin}/readyz
  Vapi's stand-in  {vapi}

  For production: cp config.example.env .env, edit it, then `make run` again.
  Below: one audit line for each request. Press Ctrl-C to stop.
"""


def banner(settings: Settings) -> str:
    """Return the text: all addresses, and a curl line that works when pasted."""
    return _TEXT.format(
        origin=f"http://{settings.host}:{settings.port}",
        path=PREFIX + START,
        playground=PATH,
        vapi=settings.vapi_base_url,
        token=patient_token(settings, PATIENTS[0]["id"]),
    )

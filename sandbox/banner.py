"""What development mode says when it is up."""

from sandbox.playground import PATH, PATIENTS
from sandbox.tokens import patient_token
from server.app import PATH as START
from server.app import PREFIX
from server.config import Settings

_TEXT = """
  vapi-sessions, in development mode: generated secrets, a stand-in for Vapi, this machine only.

  Start a session (this token is good for an hour):

curl -sS -w '\\n' -X POST {origin}{path} -H 'Authorization: Bearer {token}'

  Playground       {origin}{playground}
  API              {origin}/docs
  Ready?           {origin}/readyz
  Vapi's stand-in  {vapi}

  For real: cp config.example.env .env, fill it in, then `make run` again.
  Below: one audit line for each request. Ctrl-C ends.
"""


def banner(settings: Settings) -> str:
    """Say where everything is, with a line for the shell that works when pasted."""
    return _TEXT.format(
        origin=f"http://{settings.host}:{settings.port}",
        path=PREFIX + START,
        playground=PATH,
        vapi=settings.vapi_base_url,
        token=patient_token(settings, PATIENTS[0]["id"]),
    )

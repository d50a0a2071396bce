"""The text that development mode prints when it is ready."""

from socket import socket

from sandbox.patients import PATIENTS
from sandbox.playground import PATH
from sandbox.tokens import patient_token
from server.app import PATH as START
from server.app import PREFIX
from server.config import Settings

_TEXT = """
  vapi-sessions, in development mode: generated secrets, a stand-in for Vapi, this machine only.

  Open {origin} and press "Start a call".

  Or start a session here (the token is valid for an hour):

curl -sS -w '\\n' -X POST {origin}{path} -H 'Authorization: Bearer {token}'

  Playground       {origin}{playground}
  API              {origin}/docs
  Readiness        {origin}/readyz
  Vapi's stand-in  {vapi}
  iOS, Android     {mobile}

  A tool server of your own (docs/tools/README.md) needs:

export JWKS_URL={origin}/.well-known/jwks.json
export EXPECTED_ISSUER={issuer}
export EXPECTED_AUDIENCE={audience}
export WEBHOOK_SECRET={secret}

  For production: cp config.example.env .env, edit it, then `make run` again.
  Below: one audit line for each request. Press Ctrl-C to stop.
"""
_MOBILE = "the stand-in too, for Vapi's SDKs with the host `localhost` (port 3001)"
_NO_MOBILE = "port 3001 is taken: Vapi's SDKs cannot reach the stand-in"


def banner(settings: Settings, webhook_secret: str, *, mobile: socket | None = None) -> str:
    """Return the text: all addresses, and lines for the shell that work when pasted.

    Vapi's stand-in signs tool calls with `webhook_secret`; `mobile` is the port for Vapi's iOS and
    Android SDKs, or None when it was taken.
    """
    return _TEXT.format(
        origin=f"http://{settings.host}:{settings.port}",
        path=PREFIX + START,
        playground=PATH,
        vapi=settings.vapi_base_url,
        mobile=_MOBILE if mobile else _NO_MOBILE,
        issuer=settings.proof_issuer,
        audience=settings.proof_audience,
        secret=webhook_secret,
        token=patient_token(settings, PATIENTS[0].id),
    )

"""Calls of the stand-in, with proofs of the service."""

from time import time
from typing import Any

import jwt
from aiohttp import ClientSession

from rig.service import ASSISTANT_ID, PUBLIC_KEY
from rig.vapi import StandIn
from sandbox.vapi.calls import CallStore
from server.proof import public_jwk
from tests import pems

CALL_VARIABLES = {
    "PROOF_KEY": pems.private(pems.P256).replace("\n", "\\n"),
    "PROOF_ISSUER": "https://sessions.clinic.example",
    "PROOF_AUDIENCE": "tools",
}


def proof(patient: str = "pt_1", jti: str | None = None, **more: Any) -> str:
    """Sign a proof like the service."""
    now = int(time())
    claims = {
        "iss": CALL_VARIABLES["PROOF_ISSUER"],
        "aud": CALL_VARIABLES["PROOF_AUDIENCE"],
        "sub": patient,
        "jti": jti or f"proof-of-{patient}-{time()}",
        "assistantId": ASSISTANT_ID,
        "iat": now,
        "exp": now + 120,
        **more,
    }
    headers = {"typ": "patient-proof+jwt", "kid": public_jwk(pems.P256)["kid"]}
    return jwt.encode(claims, pems.P256, "ES256", headers=headers)


async def call(vapi: StandIn, token: str | None = None, **overrides: Any) -> str:
    """Start a call like an app; return its id."""
    if token is not None:
        overrides["variableValues"] = {"patientProof": token}
    body = {"assistantId": ASSISTANT_ID, "assistantOverrides": overrides}
    headers = {"Authorization": f"Bearer {PUBLIC_KEY}"}
    async with (
        ClientSession(headers=headers) as client,
        client.post(f"{vapi.url}/call/web", json=body) as response,
    ):
        created = await response.json()
        assert response.status == 201, created
        return str(created["id"])


def long_calls() -> CallStore:
    """Return a store whose calls last for longer than a test."""
    return CallStore(limit=5000, seconds=600)

"""One organization of the stand-in, tokens signed for it, and requests to it."""

import time
from typing import Any

import aiohttp
import jwt
from aiohttp import web
from aiohttp.test_utils import TestClient

PRIVATE = "11111111-aaaa-4aaa-8aaa-111111111111"
PUBLIC = "22222222-bbbb-4bbb-8bbb-222222222222"
ORG = "33333333-cccc-4ccc-8ccc-333333333333"
ASSISTANT = "44444444-dddd-4ddd-8ddd-444444444444"
OTHER = "55555555-eeee-4eee-8eee-555555555555"
ORIGIN = "https://clinic.example"

Client = TestClient[web.Request, web.Application]


def token(
    *, key: str = PRIVATE, org: Any = ORG, tag: Any = "public", exp: float = 86400, **limits: Any
) -> str:
    """Sign a JWT as Vapi's documentation says; `limits` are its restrictions.

    It lives long, since parametrized tests sign it when they are collected.
    """
    claims = {
        "orgId": org,
        "token": {"tag": tag, "restrictions": {"enabled": True, **limits}},
        "exp": time.time() + exp,
    }
    return jwt.encode(claims, key, algorithm="HS256")


def restricted(**changes: Any) -> str:
    """Sign a JWT with the restrictions that the service sets."""
    limits = {"allowedAssistantIds": [ASSISTANT], "allowTransientAssistant": False}
    return token(**{**limits, **changes})


def tokenless(key: str = PRIVATE, org: str = ORG) -> str:
    """Sign a JWT without the claim `token`."""
    return jwt.encode({"orgId": org, "exp": time.time() + 86400}, key, algorithm="HS256")


def bearer(credential: str) -> dict[str, str]:
    """Return the header that carries a credential."""
    return {"Authorization": f"Bearer {credential}"}


async def call_web(
    vapi: Client, credential: str, body: Any = None, **headers: str
) -> aiohttp.ClientResponse:
    """Ask for a web call with the assistant's id, or with another body."""
    sent = {"assistantId": ASSISTANT} if body is None else body
    return await vapi.post("/call/web", json=sent, headers={**bearer(credential), **headers})

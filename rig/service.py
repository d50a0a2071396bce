"""Valid settings, tokens, and the service in this process, on a real socket."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any, Final

import jwt
from aiohttp import ClientResponse, ClientSession, web
from aiohttp.typedefs import Middleware

from server.app import connection_limits, create_app
from server.config import Settings, load_settings
from server.serving.run import Runner

SECRET = "a-secret-of-the-tests-that-is-64-bytes-long-enough-for-HS512-too"
PRIVATE_KEY = "11111111-private-4111-8111-111111111111"
PUBLIC_KEY = "22222222-public-4222-8222-222222222222"
ASSISTANT_ID = "33333333-3333-4333-8333-333333333333"
ORG_ID = "44444444-org-4444-8444-444444444444"
PATH = "/api/v1/sessions/vapi/start"
NO_FILE = Path("/nonexistent/.env")

_JWS: Final = jwt.PyJWS()
_JWS.register_algorithm("Ed25519", jwt.get_algorithm_by_name("EdDSA"))  # RFC 9864

VARIABLES: Mapping[str, str] = {
    "VAPI_API_KEY": PRIVATE_KEY,
    "VAPI_PUBLIC_API_KEY": PUBLIC_KEY,
    "VAPI_ASSISTANT_ID": ASSISTANT_ID,
    "VAPI_ORG_ID": ORG_ID,
    "VAPI_CHECK_SECONDS": "0",
    "JWT_SECRET": SECRET,
    "HOST": "127.0.0.1",
    "PORT": "0",
    "SHUTDOWN_GRACE_SECONDS": "1",
}


def make_settings(**variables: str) -> Settings:
    """Load settings from variables; an empty value unsets one."""
    return load_settings({**VARIABLES, **variables}, NO_FILE)


def claims(**more: Any) -> dict[str, Any]:
    """Return a patient's claims, valid for an hour; a value of `...` omits the claim."""
    now = int(time())
    all_ = {"id": "pt_1", "type": "patient", "iat": now, "exp": now + 3600, **more}
    return {name: value for name, value in all_.items() if value is not ...}


def sign(
    payload: Mapping[str, Any] | bytes | None = None,
    key: Any = SECRET,
    algorithm: str = "HS256",
    **headers: Any,
) -> str:
    """Sign a token with these claims or payload bytes; `headers` are added to the JOSE header."""
    if not isinstance(payload, bytes):
        payload = json.dumps(claims() if payload is None else payload).encode()
    return _JWS.encode(payload, key, algorithm, headers=headers or None)


@dataclass(frozen=True, slots=True)
class Service:
    """The running service."""

    url: str
    client: ClientSession
    app: web.Application

    @property
    def port(self) -> int:
        """Its port on loopback."""
        return int(self.url.rpartition(":")[2])

    async def start(self, token: str | None = None, **request: Any) -> "Answer":
        """Start a session like an app; `request` has options of aiohttp's client."""
        headers = dict(request.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await self.ask("POST", PATH, headers=headers, **request)

    async def ask(self, method: str, path: str, **request: Any) -> "Answer":
        """Send any request."""
        async with self.client.request(method, self.url + path, **request) as response:
            return Answer(response.status, response, await response.read())


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response."""

    status: int
    response: ClientResponse
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The error code, or None for a success."""
        error = self.json.get("error", {})
        return error.get("code") if not self.json.get("success") else None

    @property
    def details(self) -> str:
        """The details of the error."""
        return str(self.json["error"]["details"])


@asynccontextmanager
async def running(settings: Settings, *middlewares: Middleware) -> AsyncIterator[Service]:
    """Run the service like its own process, on a free port of loopback.

    `middlewares` are added innermost, to inject failures.
    """
    app = create_app(settings)
    app.middlewares.extend(middlewares)
    runner = Runner(app, connection_limits(settings), grace=settings.shutdown_grace_seconds)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with ClientSession() as client:
            yield Service(f"http://127.0.0.1:{port}", client, app)
    finally:
        await runner.cleanup()

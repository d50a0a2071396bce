"""An identity provider for tests: rotating keys, at an address that can fail in any way."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt.algorithms
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from rig.rsa_keys import rsa_key
from rig.service import claims, sign

ISSUER = "https://issuer.example/"

Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_key(algorithm: str) -> Any:
    """Return a private key for an algorithm."""
    curves: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}
    if algorithm in curves:
        return ec.generate_private_key(curves[algorithm])
    if algorithm in {"EdDSA", "Ed25519"}:
        return ed25519.Ed25519PrivateKey.generate()
    return rsa_key()


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the provider."""

    algorithm: str
    private: Any
    kid: str | None

    def jwk(self, **more: Any) -> dict[str, Any]:
        """Return the public key as a JWK; a value of `...` omits the member."""
        name = "EdDSA" if self.algorithm == "Ed25519" else self.algorithm
        maker: Any = jwt.algorithms.get_default_algorithms()[name]
        made = maker.to_jwk(self.private.public_key(), as_dict=True)
        kid = ... if self.kid is None else self.kid
        all_ = {**made, "kid": kid, "use": "sig", "alg": self.algorithm, **more}
        return {name: value for name, value in all_.items() if value is not ...}

    def token(self, payload: dict[str, Any] | None = None, **headers: Any) -> str:
        """Sign a patient's token, or these claims."""
        payload = claims(iss=ISSUER) if payload is None else payload
        if self.kid is not None:
            headers = {"kid": self.kid, **headers}
        return sign(payload, self.private, self.algorithm, **headers)


def key(kid: str | None = "one", algorithm: str = "ES256") -> Key:
    """Return a new key."""
    return Key(algorithm, make_key(algorithm), kid)


@dataclass(slots=True)
class Issuer:
    """Serves its keys and counts the requests; `respond` can be replaced."""

    keys: list[Key] = field(default_factory=lambda: [key()])
    fetches: int = 0
    respond: Respond | None = None
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The address of the JWKS."""
        return f"http://127.0.0.1:{self.port}/jwks.json"

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables that make the service accept this provider."""
        return {
            "JWT_SECRET": "",
            "JWT_JWKS_URL": self.url,
            "JWT_ISSUER": ISSUER,
            "JWT_ALGORITHMS": "RS256,RS512,PS256,ES256,ES384,EdDSA",
        }

    @property
    def document(self) -> dict[str, Any]:
        """The JWKS document."""
        return {"keys": [each.jwk() for each in self.keys]}

    async def come_up(self) -> None:
        """Listen on a free port; after `go_down`, on the same port."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def go_down(self) -> None:
        """Refuse connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.fetches += 1
        if self.respond is not None:
            return await self.respond(request)
        return web.Response(text=json.dumps(self.document), content_type="application/json")


@asynccontextmanager
async def issuing(*keys: Key) -> AsyncIterator[Issuer]:
    """Run a provider with these keys, or with a new one."""
    issuer = Issuer(list(keys)) if keys else Issuer()
    await issuer.come_up()
    try:
        yield issuer
    finally:
        await issuer.go_down()


def responding(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Respond:
    """Answer everything with this."""

    async def respond(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return respond


async def hang(_: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def hang_in_the_body(request: web.Request) -> web.StreamResponse:
    """Start a response and never finish it."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'{"keys": [')
    return await hang(request)

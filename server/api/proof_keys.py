"""The public keys of patient proofs, for tool servers."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from middlewares.json_response import json_response
from middlewares.response_headers import remove_server_header
from server.api.routing import add_fallback, add_route
from server.config import Settings
from server.config.proof_key import load_proof_keys
from server.proof.public_jwks import public_jwks

_CACHE: Final[Mapping[str, str]] = {hdrs.CACHE_CONTROL: "public, max-age=300"}


def add_proof_keys(app: web.Application, settings: Settings, path: str) -> None:
    """Serve the public keys of `PROOF_KEY` at `path`; add no route without `PROOF_KEY`."""
    if not settings.proof_key:
        return
    body = msgspec.json.encode(public_jwks(load_proof_keys(settings.proof_key)))

    async def proof_keys(_: web.Request) -> web.StreamResponse:
        response = json_response(body)
        response.headers.update(_CACHE)
        return response

    add_route(app, hdrs.METH_GET, path, proof_keys)


def mount_proof_keys(
    host_app: web.Application,
    settings: Settings,
    prefix: str,
    middlewares: Sequence[Middleware],
) -> None:
    """Serve the keys inside a host application, at `{prefix}/jwks.json`."""
    if settings.proof_key:
        app = web.Application(middlewares=middlewares)
        app.on_response_prepare.append(remove_server_header)
        add_proof_keys(app, settings, "")
        add_fallback(app)
        host_app.add_subapp(f"{prefix}/jwks.json", app)

"""The operational routes: liveness, readiness, metrics, public keys, and the API documents.

`openapi.json` is the OpenAPI 3.1 document.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from middlewares.headers import JsonResponse, remove_server_header
from server.api.routing import add_exact_subapp, add_route
from server.config import Settings
from server.config.checks import find_swagger_ui
from server.config.keys import load_proof_keys
from server.proof import public_jwks

if TYPE_CHECKING:
    from server.observability.metrics import Metrics

_CACHE: Final[Mapping[str, str]] = {hdrs.CACHE_CONTROL: "public, max-age=300"}


def add_proof_keys(app: web.Application, settings: Settings, path: str) -> None:
    """Serve the public keys of `PROOF_KEY` at `path`; add no route without `PROOF_KEY`."""
    if not settings.proof_key:
        return
    body = msgspec.json.encode(public_jwks(load_proof_keys(settings.proof_key)))

    async def proof_keys(_: web.Request) -> web.StreamResponse:
        response = JsonResponse(body)
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
        add_exact_subapp(host_app, f"{prefix}/jwks.json", app)


_OPENAPI: Final = Path(__file__).with_name("openapi.json")
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SOUND: Final = frozenset({"up", "off", "ready"})
_SERVING: Final = frozenset({"ready", "degraded"})


class Status(Protocol):
    """What the routes report; `server.components.Components` provides it."""

    def has_started(self) -> bool:
        """Return whether the service has been ready for requests once since it started."""

    def states(self) -> dict[str, str]:
        """Return the state of each component, in one word."""


def add_routes(
    app: web.Application,
    settings: Settings,
    status: Status,
    shutting_down: asyncio.Event,
) -> None:
    """Add `/healthz`, `/readyz`, `/openapi.json`, and, when enabled, `/docs` and
    `/.well-known/jwks.json`.

    `shutting_down` is set when the process has been told to end.
    """
    document = msgspec.json.encode(msgspec.json.decode(_OPENAPI.read_bytes()))

    async def healthz(_: web.Request) -> web.StreamResponse:
        return JsonResponse(msgspec.json.encode({"status": "ok"}))

    async def readyz(_: web.Request) -> web.StreamResponse:
        states = status.states()
        text = "shutting down" if shutting_down.is_set() else _readiness(status, states)
        body = msgspec.json.encode({"status": text, "parts": states})
        return JsonResponse(body, status=200 if text in _SERVING else 503)

    async def openapi(_: web.Request) -> web.StreamResponse:
        return JsonResponse(document)

    add_route(app, hdrs.METH_GET, "/healthz", healthz)
    add_route(app, hdrs.METH_GET, "/readyz", readyz)
    add_route(app, hdrs.METH_GET, "/openapi.json", openapi)
    add_proof_keys(app, settings, "/.well-known/jwks.json")
    if settings.docs_enabled and (files := find_swagger_ui()):
        _add_swagger_ui(app, files)


def add_metrics(app: web.Application, metrics: "Metrics") -> None:
    """Add `/metrics`; where several processes share the metrics, record this one's regularly."""

    async def render(_: web.Request) -> web.StreamResponse:
        return web.Response(body=metrics.render(), headers={hdrs.CONTENT_TYPE: _METRICS_TYPE})

    add_route(app, hdrs.METH_GET, "/metrics", render)
    if metrics.are_shared:
        # The first context is the last to exit: it records the final numbers of the components.
        app.cleanup_ctx.insert(0, metrics.lifespan)


def _readiness(status: Status, states: Mapping[str, str]) -> str:
    """Return the status of a process that is not shutting down.

    A failing upstream makes the process `degraded` and keeps it in the load balancer: the upstream
    fails for every replica at once, and our error response is better than the load balancer's.
    """
    if not status.has_started():
        return "starting"
    return "ready" if _SOUND.issuperset(states.values()) else "degraded"


_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Vapi sessions: the API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<main id="api"><noscript>This page needs JavaScript; the API is described in
<a href="/openapi.json">openapi.json</a>.</noscript></main>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START: Final = """const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#api", deepLinking: true, docExpansion: "list",
  defaultModelsExpandDepth: 0, displayRequestDuration: true, tryItOutEnabled: true,
});
"""
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def _add_swagger_ui(app: web.Application, files: Path) -> None:
    """Add the page at `/docs`, without external resources; `files` of Swagger UI are read now."""
    javascript = "text/javascript; charset=utf-8"
    for path, kind, content in (
        ("", "text/html; charset=utf-8", _PAGE.encode()),
        ("/start.js", javascript, _START.encode()),
        ("/swagger-ui-bundle.js", javascript, (files / "swagger-ui-bundle.js").read_bytes()),
        ("/swagger-ui.css", "text/css; charset=utf-8", (files / "swagger-ui.css").read_bytes()),
    ):
        headers = {hdrs.CONTENT_TYPE: kind, "Content-Security-Policy": _POLICY}
        add_route(app, hdrs.METH_GET, f"/docs{path}", partial(_serve, content, headers))


async def _serve(content: bytes, headers: dict[str, str], _: web.Request) -> web.StreamResponse:
    return web.Response(body=content, headers=headers)

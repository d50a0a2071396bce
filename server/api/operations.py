"""The operational routes: liveness, readiness, metrics and the API documents."""

import asyncio
from typing import Final, Protocol

import msgspec
from aiohttp import hdrs, web

from middlewares.json_response import json_response
from server.api.openapi import build_document
from server.api.proof_keys import add_proof_keys
from server.api.routing import add_route
from server.api.swagger_ui import add_swagger_ui
from server.config import Settings
from server.config.extras import find_swagger_ui
from server.observability.metrics import Metrics

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Status(Protocol):
    """What the routes report; `server.components.Components` provides it."""

    def is_ready(self) -> bool:
        """Return whether a valid request would be granted now."""

    def states(self) -> dict[str, str]:
        """Return the state of each component."""


def add_routes(
    app: web.Application,
    settings: Settings,
    status: Status,
    endpoint: str,
    draining: asyncio.Event,
) -> None:
    """Add `/healthz`, `/readyz`, `/openapi.json`, and, when enabled, `/docs` and
    `/.well-known/jwks.json`.

    `endpoint` is the path of the session endpoint; `draining` is set when shutdown begins.
    """
    document = msgspec.json.encode(build_document(endpoint))

    async def healthz(_: web.Request) -> web.StreamResponse:
        return json_response(msgspec.json.encode({"status": "ok"}))

    async def readyz(_: web.Request) -> web.StreamResponse:
        text = "shutting down" if draining.is_set() else _readiness(status)
        body = msgspec.json.encode({"status": text, "parts": status.states()})
        return json_response(body, status=200 if text == "ready" else 503)

    async def openapi(_: web.Request) -> web.StreamResponse:
        return json_response(document)

    add_route(app, hdrs.METH_GET, "/healthz", healthz)
    add_route(app, hdrs.METH_GET, "/readyz", readyz)
    add_route(app, hdrs.METH_GET, "/openapi.json", openapi)
    add_proof_keys(app, settings, "/.well-known/jwks.json")
    if settings.docs_enabled and (files := find_swagger_ui()):
        add_swagger_ui(app, files)


def add_metrics(app: web.Application, metrics: Metrics) -> None:
    """Add `/metrics`; where several processes share the metrics, record this one's regularly."""

    async def render(_: web.Request) -> web.StreamResponse:
        return web.Response(body=metrics.render(), headers={hdrs.CONTENT_TYPE: _METRICS_TYPE})

    add_route(app, hdrs.METH_GET, "/metrics", render)
    if metrics.are_shared:
        # The first context is the last to exit: it records the final numbers of the components.
        app.cleanup_ctx.insert(0, metrics.lifespan)


def _readiness(status: Status) -> str:
    return "ready" if status.is_ready() else "not ready"

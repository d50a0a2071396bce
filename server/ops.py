"""The operator's routes: is it alive, can it serve, how is it doing, what does it offer."""

import asyncio
from typing import Final

import msgspec
from aiohttp import hdrs, web

from middlewares.errors import JSON
from server.docs import add_docs, find_files
from server.openapi import build_document
from server.parts import Parts
from server.routes import add_route
from server.settings import Settings

LEAVING: Final = web.AppKey("LEAVING", asyncio.Event)
"""Set once the service is about to leave."""

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def add_routes(app: web.Application, settings: Settings, parts: Parts, endpoint: str) -> None:
    """Add `/healthz`, `/readyz`, `/openapi.json`, and `/metrics`."""
    document = msgspec.json.encode(build_document(endpoint))
    leaving = app[LEAVING] = asyncio.Event()

    async def healthz(_: web.Request) -> web.StreamResponse:
        return _json({"status": "ok"})

    async def readyz(_: web.Request) -> web.StreamResponse:
        status = (
            "shutting down" if leaving.is_set() else "ready" if parts.can_serve() else "not ready"
        )
        code = 200 if status == "ready" else 503
        return _json({"status": status, "parts": parts.states()}, code)

    async def openapi(_: web.Request) -> web.StreamResponse:
        return web.Response(body=document, headers={hdrs.CONTENT_TYPE: JSON})

    async def metrics(_: web.Request) -> web.StreamResponse:
        return web.Response(body=parts.render_metrics(), headers={hdrs.CONTENT_TYPE: _METRICS_TYPE})

    add_route(app, hdrs.METH_GET, "/healthz", healthz)
    add_route(app, hdrs.METH_GET, "/readyz", readyz)
    add_route(app, hdrs.METH_GET, "/openapi.json", openapi)
    if settings.metrics_enabled:
        add_route(app, hdrs.METH_GET, "/metrics", metrics)
    if settings.docs_enabled and (files := find_files()):
        add_docs(app, files)


def _json(value: object, status: int = 200) -> web.Response:
    headers = {hdrs.CONTENT_TYPE: JSON}
    return web.Response(status=status, body=msgspec.json.encode(value), headers=headers)

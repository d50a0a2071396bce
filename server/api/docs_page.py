"""The API page at `/docs`: Swagger UI for `/openapi.json`, without external resources."""

from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from server.api.routing import add_route

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


def add_swagger_ui(app: web.Application, files: Path) -> None:
    """Add the page and its resources; the files of Swagger UI in `files` are read once, now."""
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

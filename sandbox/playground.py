"""The playground page: static files and its configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from sandbox.serving import answer
from server.config import Settings

PATH = "/playground"
STATIC = Path(str(resources.files("sandbox"))) / "static"
PATIENTS = (
    {"id": "pt_1001", "name": "Amara Okafor"},
    {"id": "pt_1002", "name": "Jonas Lindqvist"},
    {"id": "pt_1003", "name": "Mei Tanaka"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The addresses that the page uses: `endpoints` by credential type, helpers, stand-in."""

    endpoints: Mapping[str, str]
    lab: str
    vapi: str


def create_playground(addresses: Addresses, settings: Settings) -> web.Application:
    """Return the page as a sub-application for `PATH`."""
    config = {
        "endpoints": dict(addresses.endpoints),
        "lab": addresses.lab,
        "vapiUrl": addresses.vapi,
        "patients": PATIENTS,
        "maxBodyBytes": settings.max_body_bytes,
        "rateLimit": int(settings.rate_limit.partition("/")[0] or 0),
    }
    policy = _policy(addresses)

    async def index(_: web.Request) -> web.FileResponse:
        return web.FileResponse(STATIC / "index.html", headers={"Content-Security-Policy": policy})

    async def page_config(_: web.Request) -> web.Response:
        return answer(config)

    app = web.Application()
    app.router.add_get("", index)
    app.router.add_get("/config.json", page_config)
    app.router.add_static("/static", STATIC)
    return app


def _policy(addresses: Addresses) -> str:
    """Return the policy: the page connects to this machine only."""
    urls = [*addresses.endpoints.values(), addresses.lab, addresses.vapi]
    origins = sorted({f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, urls)})
    own = "script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:"
    ends = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"default-src 'none'; {own}; connect-src 'self' {' '.join(origins)}; {ends}"

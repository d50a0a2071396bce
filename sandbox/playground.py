"""The playground page: static files and its configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from aiohttp import web
from yarl import URL

from sandbox.patients import PATIENTS
from sandbox.serving import HOST, answer
from server.config import Settings

PATH = "/playground"
_HERE = Path(str(resources.files("sandbox")))
STATIC = _HERE / "static"
SDK = _HERE / "sdk"
_CLIENTS = _HERE.parent / "docs" / "clients"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The addresses that the page uses: `endpoints` by credential type, helpers, stand-in."""

    endpoints: Mapping[str, str]
    lab: str
    vapi: str

    def at(self, host: str) -> "Addresses":
        """Return the same addresses by another name of this machine."""

        def moved(url: str) -> str:
            return str(URL(url).with_host(host))

        endpoints = {kind: moved(url) for kind, url in self.endpoints.items()}
        return Addresses(endpoints=endpoints, lab=moved(self.lab), vapi=moved(self.vapi))


def create_playground(addresses: Addresses, settings: Settings) -> web.Application:
    """Return the page as a sub-application for `PATH`.

    The page may be reached by any name of this machine, and reaches everything else by that name.
    """

    async def index(request: web.Request) -> web.FileResponse:
        headers = {"Content-Security-Policy": _policy(addresses.at(request.url.host or HOST))}
        return web.FileResponse(STATIC / "index.html", headers=headers)

    async def page_config(request: web.Request) -> web.Response:
        here = addresses.at(request.url.host or HOST)
        return answer(
            {
                "endpoints": here.endpoints,
                "lab": here.lab,
                "vapiUrl": here.vapi,
                "patients": PATIENTS,
                "consent": settings.consent_required,
                "maxBodyBytes": settings.max_body_bytes,
                "rateLimit": int(settings.rate_limit.partition("/")[0] or 0),
                "realSdk": (STATIC / "vapi-sdk.js").exists(),
            }
        )

    async def sdk(request: web.Request) -> web.FileResponse:
        return web.FileResponse(SDK / f"{request.match_info['name']}.js")

    async def recipe(_: web.Request) -> web.FileResponse:
        return web.FileResponse(_CLIENTS / "session.js")

    app = web.Application()
    for path in ("", "/"):
        app.router.add_get(path, index)
    app.router.add_get("/config.json", page_config)
    app.router.add_get("/{name:vapi|vapi-events|vapi-room}.js", sdk)
    app.router.add_get("/clients/session.js", recipe)
    app.router.add_static("/static", STATIC)
    return app


def _policy(addresses: Addresses) -> str:
    """Return the policy: the page connects to this machine only."""
    urls = [*addresses.endpoints.values(), addresses.lab, addresses.vapi]
    origins = sorted({str(URL(url).origin()) for url in urls})
    room = str(URL(addresses.vapi).with_scheme("ws").origin())
    own = "script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:"
    ends = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"default-src 'none'; {own}; connect-src 'self' {' '.join(origins)} {room}; {ends}"

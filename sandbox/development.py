"""Development mode: the service with generated settings, and everything that it needs."""

import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from secrets import token_hex
from uuid import uuid4

from aiohttp import web

from sandbox.lab import Lab, create_lab
from sandbox.local_requests import local_requests_only
from sandbox.playground import PATH, Addresses, create_playground
from sandbox.sabotage import Saboteur
from sandbox.serving import HOST, bind, origin, port_of, serving
from sandbox.tools.proofs import new_proof_key
from sandbox.tools.server import PATH as TOOL_PATH
from sandbox.tools.server import ToolServer, create_tool_server
from sandbox.vapi.app import create_vapi
from server import app as service
from server.config import Settings, load_settings
from server.config.settings import VARIABLES, CredentialType

ENDPOINT = service.PREFIX + service.PATH
PORT = 8080
# The port of Vapi's iOS and Android SDKs when their host is `localhost`.
MOBILE_PORT = 3001
PROOF_AUDIENCE = "https://tools.clinic.example"
# These configure development mode; any other setting disables it.
_NO_CONFIGURATION = frozenset({"HOST", "PORT", "LOG_LEVEL", "LOG_FORMAT", "CORS_ALLOWED_ORIGINS"})
_LOOPBACK = frozenset({"", HOST, "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Companions:
    """The additional loopback ports; `mobile` is `MOBILE_PORT`, or None when it was taken."""

    vapi: socket.socket
    lab: socket.socket
    tokens: socket.socket
    tools: socket.socket
    mobile: socket.socket | None = None

    @property
    def all_vapi(self) -> tuple[socket.socket, ...]:
        """The ports of the stand-in for Vapi."""
        return (self.vapi,) if self.mobile is None else (self.vapi, self.mobile)


def is_configured(environ: Mapping[str, str], dotenv: Path) -> bool:
    """Return whether the service is configured, validly or not."""
    return dotenv.exists() or any(environ.get(name) for name in VARIABLES - _NO_CONFIGURATION)


def wants_other_hosts(environ: Mapping[str, str]) -> bool:
    """Return whether `HOST` requests an address other than loopback."""
    return environ.get("HOST", "") not in _LOOPBACK


def _port(named: str) -> str:
    """Return the requested port, else the default port, else a free one."""
    if named not in {"", "0"}:
        return named
    try:
        listener = bind(PORT)
    except OSError:
        listener = bind()
    with listener:
        return str(listener.getsockname()[1])


def development_settings(environ: Mapping[str, str], vapi: str) -> Settings:
    """Return settings with generated secrets, for a stand-in at the address `vapi`."""
    port = _port(environ.get("PORT", ""))
    generated = {
        "HOST": HOST,
        "PORT": port,
        "CORS_ALLOWED_ORIGINS": environ.get("CORS_ALLOWED_ORIGINS", ""),
        "LOG_LEVEL": environ.get("LOG_LEVEL") or "WARNING",
        "LOG_FORMAT": environ.get("LOG_FORMAT") or "console",
        "VAPI_API_KEY": str(uuid4()),
        "VAPI_PUBLIC_API_KEY": str(uuid4()),
        "VAPI_ORG_ID": str(uuid4()),
        "VAPI_ASSISTANT_ID": str(uuid4()),
        "VAPI_BASE_URL": vapi,
        # Short enough to watch an outage begin and end.
        "VAPI_CHECK_SECONDS": "1",
        "JWT_SECRET": token_hex(32),
        "JWT_REQUIRED_SCOPE": "voice:start",
        "PROOF_KEY": new_proof_key(),
        "PROOF_ISSUER": f"http://{HOST}:{port}",
        "PROOF_AUDIENCE": PROOF_AUDIENCE,
        "METRICS_ENABLED": "true",
        "DOCS_ENABLED": "true",
    }
    return load_settings(generated, dotenv=Path("/nonexistent/.env"))


def create_development(
    settings: Settings, companions: Companions, webhook_secret: str
) -> web.Application:
    """Return the service with the playground; the stand-ins have the same lifetime.

    Vapi's stand-in signs tool calls with `webhook_secret`.
    """
    own = f"http://{HOST}:{settings.port}"
    endpoints = {
        str(CredentialType.PUBLIC_KEY): own + ENDPOINT,
        str(CredentialType.SESSION_TOKEN): origin(companions.tokens) + ENDPOINT,
    }
    saboteur = Saboteur()
    vapi = create_vapi(
        private_key=settings.vapi_api_key,
        public_key=settings.vapi_public_api_key,
        org_id=settings.vapi_org_id,
        assistant_id=settings.vapi_assistant_id,
    )
    vapi_ports = [port_of(each) for each in companions.all_vapi]
    # Like Vapi, its stand-in serves every origin.
    vapi.middlewares.insert(0, local_requests_only(*vapi_ports, origins=None))
    tools = _tool_server(settings, own, webhook_secret)
    # Vapi calls tool servers from its own servers: no page does.
    tools.middlewares.insert(0, local_requests_only(port_of(companions.tools), origins=()))
    lab = Lab(
        settings=settings,
        vapi=vapi,
        saboteur=saboteur,
        endpoints=endpoints.values(),
        tool_server_url=origin(companions.tools) + TOOL_PATH,
        webhook_secret=webhook_secret,
    )
    lab_app = create_lab(lab, page_origin=own)
    lab_app.middlewares.insert(0, local_requests_only(port_of(companions.lab), origins=[own]))
    around = [
        serving(vapi, *companions.all_vapi),
        serving(tools, companions.tools),
        serving(lab_app, companions.lab),
        serving(
            _with_session_tokens(settings, own, saboteur, port_of(companions.tokens)),
            companions.tokens,
        ),
    ]
    addresses = Addresses(
        endpoints=endpoints, lab=origin(companions.lab), vapi=origin(companions.vapi)
    )
    app = _sabotaged(settings, saboteur, settings.port)
    app.add_subapp(PATH, create_playground(addresses, settings))
    # First, because the service checks Vapi when it starts.
    app.cleanup_ctx.insert(0, partial(_beside, around))
    return app


def _tool_server(settings: Settings, own: str, webhook_secret: str) -> web.Application:
    expected = ToolServer(
        jwks_url=f"{own}/.well-known/jwks.json",
        issuer=settings.proof_issuer,
        audience=settings.proof_audience,
        secret=webhook_secret,
    )
    return create_tool_server(expected)


def _sabotaged(settings: Settings, saboteur: Saboteur, port: int) -> web.Application:
    app = service.create_app(settings)
    # Inside audit and response_headers, outside CORS: a preflight must be local too.
    app.middlewares.insert(2, local_requests_only(port, origins=settings.cors_allowed_origins))
    app.middlewares.append(saboteur.middleware())
    return app


def _with_session_tokens(
    settings: Settings, page: str, saboteur: Saboteur, port: int
) -> web.Application:
    """Return a second service that issues session tokens, for the same page."""
    changed = replace(
        settings,
        vapi_credential=CredentialType.SESSION_TOKEN,
        vapi_allowed_origins=(page,),
        cors_allowed_origins=(page,),
    )
    return _sabotaged(changed, saboteur, port)


async def _beside(
    around: Iterable[AbstractAsyncContextManager[None]], _: web.Application
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for companion in around:
            await stack.enter_async_context(companion)
        yield

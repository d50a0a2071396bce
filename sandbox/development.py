"""Development mode: the service with generated settings, and everything that it needs."""

import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from sandbox.failure_injection import FailureInjector
from sandbox.lab import Lab, create_lab
from sandbox.local_requests import local_origins, local_requests_only
from sandbox.patients import GERMAN as GERMAN_ASSISTANT
from sandbox.playground import PATH, Addresses, create_playground
from sandbox.serving import HOST, origin, port_of, serving
from sandbox.tools.server import PATH as TOOL_PATH
from sandbox.tools.server import ToolServer, create_tool_server
from sandbox.vapi.app import create_vapi
from sandbox.vapi.conversation import GERMAN, PACE_SECONDS
from sandbox.vapi.room import Tool
from server import app as service
from server.config import Settings
from server.config.settings import CredentialType
from server.vapi.assistants import assistants_by_name

ENDPOINT = service.PREFIX + service.PATH
# The port of Vapi's iOS and Android SDKs when their host is `localhost`.
MOBILE_PORT = 3001


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


def create_development(
    settings: Settings, companions: Companions, webhook_secret: str, pace: float = PACE_SECONDS
) -> web.Application:
    """Return the service with the playground; the stand-ins have the same lifetime.

    Vapi's stand-in signs tool calls with `webhook_secret`; in its calls each utterance takes `pace`
    seconds.
    """
    own = f"http://{HOST}:{settings.port}"
    endpoints = _endpoints(own, companions)
    failures = FailureInjector()
    vapi = _vapi(settings, companions, webhook_secret, pace)
    lab = Lab(
        settings=settings,
        vapi=vapi,
        failures=failures,
        endpoints=endpoints.values(),
        tool_server_url=origin(companions.tools) + TOOL_PATH,
        webhook_secret=webhook_secret,
    )
    pages = local_origins(settings.port)
    lab_app = create_lab(lab, page_origins=pages)
    lab_app.middlewares.insert(0, local_requests_only(port_of(companions.lab), origins=pages))
    tools = _tool_server(settings, own, companions.tools, webhook_secret)
    tokens = _with_session_tokens(settings, pages, failures, port_of(companions.tokens))
    companion_servers = [
        serving(vapi, *companions.all_vapi),
        serving(tools, companions.tools),
        serving(lab_app, companions.lab),
        serving(tokens, companions.tokens),
    ]
    lab_at, vapi_at = origin(companions.lab), origin(companions.vapi)
    addresses = Addresses(endpoints=endpoints, lab=lab_at, vapi=vapi_at)
    app = _service_with_failures(settings, failures, settings.port)
    app.middlewares.insert(3, _lead_to_playground)
    app.add_subapp(PATH, create_playground(addresses, settings))
    # First, because the service checks Vapi when it starts.
    app.cleanup_ctx.insert(0, partial(_run_companions, companion_servers))
    return app


def _endpoints(own: str, companions: Companions) -> dict[str, str]:
    """Return the address of the endpoint for each type of credential."""
    return {
        str(CredentialType.PUBLIC_KEY): own + ENDPOINT,
        str(CredentialType.SESSION_TOKEN): origin(companions.tokens) + ENDPOINT,
    }


@web.middleware
async def _lead_to_playground(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path == "/" and request.method in {hdrs.METH_GET, hdrs.METH_HEAD}:
        return web.Response(status=302, headers={hdrs.LOCATION: PATH})
    return await handler(request)


def _vapi(
    settings: Settings, companions: Companions, webhook_secret: str, pace: float
) -> web.Application:
    app = create_vapi(
        private_key=settings.vapi_api_key,
        public_key=settings.vapi_public_api_key,
        org_id=settings.vapi_org_id,
        assistant_id=settings.vapi_assistant_id,
        pace=pace,
        scripts={assistants_by_name(settings)[GERMAN_ASSISTANT]: GERMAN},
        tool=Tool(url=origin(companions.tools) + TOOL_PATH, secret=webhook_secret),
    )
    ports = [port_of(each) for each in companions.all_vapi]
    # Like Vapi, its stand-in serves every origin.
    app.middlewares.insert(0, local_requests_only(*ports, origins=None))
    return app


def _tool_server(
    settings: Settings, own: str, listener: socket.socket, webhook_secret: str
) -> web.Application:
    expected = ToolServer(
        jwks_url=f"{own}/.well-known/jwks.json",
        issuer=settings.proof_issuer,
        audience=settings.proof_audience,
        secret=webhook_secret,
    )
    app = create_tool_server(expected)
    # Vapi calls tool servers from its own servers: no page does.
    app.middlewares.insert(0, local_requests_only(port_of(listener), origins=()))
    return app


def _service_with_failures(
    settings: Settings, failures: FailureInjector, port: int
) -> web.Application:
    app = service.create_app(settings)
    # Inside audit and response_headers, outside CORS: a preflight must be local too.
    app.middlewares.insert(2, local_requests_only(port, origins=settings.cors_allowed_origins))
    app.middlewares.append(failures.middleware())
    return app


def _with_session_tokens(
    settings: Settings, pages: tuple[str, ...], failures: FailureInjector, port: int
) -> web.Application:
    """Return a second service that issues session tokens, for the same page."""
    changed = replace(
        settings,
        vapi_credential=CredentialType.SESSION_TOKEN,
        vapi_allowed_origins=pages,
        cors_allowed_origins=pages,
    )
    return _service_with_failures(changed, failures, port)


async def _run_companions(
    companion_servers: Iterable[AbstractAsyncContextManager[None]], _: web.Application
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for companion in companion_servers:
            await stack.enter_async_context(companion)
        yield

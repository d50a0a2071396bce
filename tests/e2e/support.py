"""The services, stand-ins and pages of these tests, each on its own origin."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aiohttp import ClientError, ClientSession, web

from rig.redis_server import free_port
from rig.service import VARIABLES, make_settings
from rig.vapi import make_vapi
from rig.waiting import eventually
from sandbox.development import ENDPOINT, Companions, create_development
from sandbox.failure_injection import FailureInjector
from sandbox.lab import Lab, create_lab
from sandbox.playground import PATH, Addresses, create_playground
from sandbox.serving import bind, origin, serving
from sandbox.settings import development_settings
from sandbox.vapi.call_list import CALLS
from sandbox.vapi.calls import CallStore
from server.config import Settings
from tests.e2e.browser import ROOT

PACE = 0.4
"""How many seconds an utterance takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clinic:
    """A service, a stand-in for Vapi and a page, each on its own origin."""

    environ: Mapping[str, str]
    vapi: web.Application
    page: str
    service: str

    @property
    def calls(self) -> CallStore:
        """The web calls that the stand-in accepted."""
        return self.vapi[CALLS]


@asynccontextmanager
async def clinic(*, calls: CallStore | None = None, **variables: str) -> AsyncIterator[Clinic]:
    """Start everything; the service is a separate process, configured by its environment."""
    vapi = make_vapi(calls)
    with bind() as vapi_port, bind() as lab_port, bind() as page_port:
        page, port = origin(page_port), free_port()
        environ = {
            **VARIABLES,
            "PORT": str(port),
            "VAPI_BASE_URL": origin(vapi_port),
            "VAPI_CHECK_SECONDS": "1",
            "VAPI_ALLOWED_ORIGINS": page,
            "CORS_ALLOWED_ORIGINS": page,
            **variables,
        }
        service = f"http://127.0.0.1:{port}"
        settings = make_settings(**environ)
        addresses = Addresses(
            endpoints={settings.vapi_credential: service + ENDPOINT},
            lab=origin(lab_port),
            vapi=origin(vapi_port),
        )
        async with (
            serving(vapi, vapi_port),
            serving(_lab(settings, vapi, page), lab_port),
            serving(_page(addresses, settings), page_port),
            process(environ, service),
        ):
            yield Clinic(environ=environ, vapi=vapi, page=page + PATH, service=service)


def _lab(settings: Settings, vapi: web.Application, page: str) -> web.Application:
    lab = Lab(
        settings=settings,
        vapi=vapi,
        failures=FailureInjector(),
        endpoints=(),
        tool_server_url="http://127.0.0.1:1",
        webhook_secret="unused",
    )
    return create_lab(lab, page_origins=[page])


def _page(addresses: Addresses, settings: Settings) -> web.Application:
    app = web.Application()
    app.add_subapp(PATH, create_playground(addresses, settings))
    return app


@asynccontextmanager
async def development(**variables: str) -> AsyncIterator[str]:
    """Serve development mode, as `make run` does; yield the address of its playground."""
    with bind() as own, bind() as vapi_port, bind() as lab, bind() as tokens, bind() as tools:
        port = origin(own).rpartition(":")[2]
        settings = development_settings({"PORT": port, **variables}, origin(vapi_port))
        companions = Companions(vapi=vapi_port, lab=lab, tokens=tokens, tools=tools)
        async with serving(
            create_development(settings, companions, "the secret of the HMAC credential", PACE), own
        ):
            yield origin(own) + PATH


@asynccontextmanager
async def process(environ: Mapping[str, str], url: str) -> AsyncIterator[None]:
    """Run `python -m server`: yield when it is ready, then terminate it and wait for its end."""
    command = (sys.executable, "-m", "server")
    environ = {**os.environ, **environ}
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environ)
    try:
        async with ClientSession() as client:
            await eventually(partial(_is_ready, client, url), seconds=60)
        yield
    finally:
        running.terminate()
        assert await running.wait() == 0


async def _is_ready(client: ClientSession, url: str) -> bool:
    try:
        async with client.get(f"{url}/readyz") as response:
            return response.status == 200
    except ClientError:
        return False

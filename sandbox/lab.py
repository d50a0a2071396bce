"""Helpers of the playground that production does not have: tokens, stalls, a Vapi outage."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from secrets import token_hex
from time import perf_counter
from typing import Any

import msgspec
from aiohttp import ClientSession, web

from middlewares.cors import cors
from sandbox.failure_injection import FailureInjector
from sandbox.patients import ENGLISH, GERMAN
from sandbox.serving import answer, read_json
from sandbox.tokens import Kind, expired_credential, patient_token
from sandbox.tools.routes import add_tool_routes
from sandbox.vapi.behaviour import UP, Behaviour, Fault
from sandbox.vapi.call_list import CALLS
from sandbox.vapi.faults import SWITCH
from server.config import Settings

_NOTICE_SECONDS = 10.0
_LOOK_SECONDS = 0.2


class _TokenRequest(msgspec.Struct):
    kind: Kind
    patient: str


class _StalledRequest(msgspec.Struct):
    url: str
    headers: dict[str, str]


class _VapiStatus(msgspec.Struct):
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """The objects that the helpers use; `endpoints` are the addresses of the session endpoints.

    The stand-in sends tool calls to `tool_server_url`, signed with `webhook_secret`.
    """

    settings: Settings
    vapi: web.Application
    failures: FailureInjector
    endpoints: Collection[str]
    tool_server_url: str
    webhook_secret: str


LAB = web.AppKey("lab", Lab)
_CLIENT = web.AppKey("client", ClientSession)


def create_lab(lab: Lab, *, page_origins: Collection[str]) -> web.Application:
    """Return the helpers; only the playground page can call them."""
    app = web.Application(middlewares=[cors(origins=page_origins)])
    app[LAB] = lab
    app.cleanup_ctx.append(_client)
    app.router.add_post("/tokens", _tokens)
    app.router.add_post("/credentials", _credentials)
    app.router.add_post("/stall", _stall)
    app.router.add_post("/vapi", _vapi)
    calls, url = lab.vapi[CALLS], lab.tool_server_url
    add_tool_routes(app, lab.settings, calls, url=url, secret=lab.webhook_secret)
    return app


async def _client(app: web.Application) -> AsyncIterator[None]:
    async with ClientSession() as session:
        app[_CLIENT] = session
        yield


async def _tokens(request: web.Request) -> web.Response:
    body, lab = await read_json(request, _TokenRequest), request.app[LAB]
    try:
        token = patient_token(lab.settings, body.patient, body.kind)
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from None
    lab.failures.mark(token, body.kind)
    return answer({"token": token})


async def _credentials(request: web.Request) -> web.Response:
    return answer({"apiKey": expired_credential(request.app[LAB].settings)})


async def _stall(request: web.Request) -> web.Response:
    """Send a request whose body stops in the middle, which a browser cannot do."""
    body = await read_json(request, _StalledRequest)
    if body.url not in request.app[LAB].endpoints:
        raise web.HTTPBadRequest(text="not an address of the service")
    return answer(await _stalled(request.app[_CLIENT], body))


async def _stalled(client: ClientSession, body: _StalledRequest) -> dict[str, Any]:
    started = perf_counter()
    headers = {**body.headers, "Content-Length": "100"}
    async with client.post(body.url, data=_half_a_body(), headers=headers) as response:
        return {
            "status": response.status,
            "reason": response.reason,
            "headers": [[name.lower(), value] for name, value in response.headers.items()],
            "text": await response.text(),
            "milliseconds": (perf_counter() - started) * 1000,
        }


async def _half_a_body() -> AsyncIterator[bytes]:
    yield b'{"patientContext": '
    await asyncio.sleep(3600)


async def _vapi(request: web.Request) -> web.Response:
    """Switch the stand-in; respond when every service has noticed."""
    body, lab = await read_json(request, _VapiStatus), request.app[LAB]
    up = body.status == 200
    lab.vapi[SWITCH].behaviour = UP if up else Behaviour(Fault.STATUS, status=body.status)
    async with asyncio.timeout(_NOTICE_SECONDS):
        for endpoint in lab.endpoints:
            await _until_noticed(request.app[_CLIENT], lab, endpoint, up=up)
    return answer({"up": up})


async def _until_noticed(client: ClientSession, lab: Lab, endpoint: str, *, up: bool) -> None:
    """Ask for sessions with each assistant until they are granted, or no longer.

    `/readyz` says `degraded` while one of several assistants is down, and while all are.
    """
    for assistant in (ENGLISH, GERMAN):
        while await _is_granted(client, lab, endpoint, assistant) != up:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)


async def _is_granted(client: ClientSession, lab: Lab, endpoint: str, assistant: str) -> bool:
    # A new patient each time, so that no rate limit is met.
    token = patient_token(lab.settings, f"pt_{token_hex(4)}", assistants=(assistant,))
    consent = dict(each.split("@") for each in lab.settings.consent_required)
    headers = {"Authorization": f"Bearer {token}"}
    async with client.post(endpoint, json={"consent": consent}, headers=headers) as response:
        return response.ok

"""A stand-in for Vapi: the two routes that matter here, with its checks and its errors."""

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from sandbox.failures import envelope
from sandbox.faults import SWITCH, Switch, misbehave, release_stuck
from sandbox.grants import Account, CallRequest, Refusal
from sandbox.serving import answer

PROMPT = "You are a careful nurse. This prompt must never reach a patient's device."


@dataclass(frozen=True, slots=True)
class WebCall:
    """A web call that was accepted."""

    id: str
    assistant_id: str | None
    credential_type: str
    origin: str
    body: dict[str, Any]


ACCOUNT = web.AppKey("account", Account)
CALLS = web.AppKey("calls", list[WebCall])
# Method and path of the latest requests, for tests of what was asked for and how often.
REQUESTS = web.AppKey("requests", deque[str])


def create_vapi(
    *, private_key: str, public_key: str, org_id: str, assistant_id: str
) -> web.Application:
    """Build the stand-in; `app[SWITCH].behaviour` makes it fail, `app[CALLS]` is its record."""
    app = web.Application(middlewares=[_record, misbehave(), _refusals])
    app[ACCOUNT] = Account(
        private_key=private_key, public_key=public_key, org_id=org_id, assistant_id=assistant_id
    )
    app[SWITCH] = Switch()
    app[CALLS] = []
    app[REQUESTS] = deque(maxlen=10_000)
    app.router.add_get("/assistant/{id}", _assistant)
    app.router.add_post("/call/web", _call_web)
    app.router.add_options("/call/web", _preflight)
    app.on_response_prepare.append(_open_to_every_origin)
    app.on_shutdown.append(release_stuck)
    return app


@web.middleware
async def _record(request: web.Request, handler: Handler) -> web.StreamResponse:
    request.app[REQUESTS].append(f"{request.method} {request.path}")
    return await handler(request)


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return envelope(refusal.status, refusal.message)
    except web.HTTPNotFound:
        return envelope(404, f"Cannot {request.method} {request.path}")


async def _preflight(_: web.Request) -> web.Response:
    allowed = {
        "Access-Control-Allow-Headers": "authorization, content-type",
        "Access-Control-Allow-Methods": "GET, POST",
    }
    return web.Response(status=204, headers=allowed)


async def _open_to_every_origin(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Access-Control-Allow-Origin"] = "*"


async def _assistant(request: web.Request) -> web.Response:
    account = request.app[ACCOUNT]
    account.require_private(_bearer(request))
    if request.match_info["id"] != account.assistant_id:
        raise Refusal(404, f"Couldn't Get Assistant '{request.match_info['id']}'")
    model = {"provider": "openai", "messages": [{"role": "system", "content": PROMPT}]}
    return answer(
        {"id": account.assistant_id, "orgId": account.org_id, "name": "Nurse", "model": model}
    )


async def _call_web(request: web.Request) -> web.Response:
    account, origin = request.app[ACCOUNT], request.headers.get("Origin", "")
    body = await request.read()
    call = _call_request(body)
    kind = account.grant(_bearer(request), call, origin)
    accepted = WebCall(str(uuid4()), call.assistant_id, kind, origin, msgspec.json.decode(body))
    request.app[CALLS].append(accepted)
    return answer(_call(accepted, account.org_id, request), 201)


def _bearer(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _call_request(body: bytes) -> CallRequest:
    try:
        return msgspec.json.decode(body, type=CallRequest)
    except msgspec.DecodeError as error:
        raise Refusal(400, str(error)) from error


def _call(call: WebCall, org_id: str, request: web.Request) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    # A room of the stand-in's own: a caller that follows it stays on this machine.
    room = str(request.url.origin().with_path(f"/room/{call.id}"))
    return {
        "id": call.id,
        "orgId": org_id,
        "assistantId": call.assistant_id,
        "type": "webCall",
        "status": "queued",
        "createdAt": now,
        "updatedAt": now,
        "webCallUrl": room,
        "transport": {"provider": "daily", "callUrl": room},
        "artifactPlan": {"videoRecordingEnabled": False},
    }

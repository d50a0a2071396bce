"""The stand-in's routes: assistant, call list, web calls, their rooms and their control."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from time import time
from types import MappingProxyType

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from sandbox.serving import answer
from sandbox.vapi.account import Account
from sandbox.vapi.call_list import CALL_LIST, CALLS, CallListFaults, control_call, list_calls
from sandbox.vapi.call_request import CallRequest, is_uuid, parse_call_request
from sandbox.vapi.calls import CallStore, WebCall, new_call, timestamp
from sandbox.vapi.conversation import ENGLISH, PACE_SECONDS, Script
from sandbox.vapi.errors import OVER_CONCURRENCY_LIMIT, UNKNOWN_BEHAVIOUR, Refusal, error_response
from sandbox.vapi.faults import SWITCH, Switch, inject_faults, release_stuck
from sandbox.vapi.room import ROOMS, Rooms, Tool, close_rooms, room

PROMPT = "You are a careful nurse. This prompt must never reach a patient's device."

ACCOUNT = web.AppKey("account", Account)


@dataclass(slots=True)
class AssistantAnswer:
    """What the stand-in says of its assistant, which can be assigned at any time.

    `clock_ahead` is in seconds: how far Vapi's clock, in `Date`, is ahead.
    """

    monitor_plan: dict[str, bool] | None = field(default_factory=lambda: {"listenEnabled": False})
    clock_ahead: float = 0


ASSISTANT = web.AppKey("assistant", AssistantAnswer)
# Method and path of the latest requests, for tests that count them.
REQUESTS = web.AppKey("requests", deque[str])


def create_vapi(
    *,
    private_key: str,
    public_key: str,
    org_id: str,
    assistant_id: str,
    calls: CallStore | None = None,
    tool: Tool | None = None,
    scripts: Mapping[str, Script] = MappingProxyType({}),
    pace: float = PACE_SECONDS,
) -> web.Application:
    """Return the stand-in; `app[SWITCH].behaviour` makes it fail, `app[CALLS]` has its calls.

    In a call the assistant calls `tool`; each utterance takes `pace` seconds. `scripts` has what is
    said in calls of further assistants, by their ids.
    """
    app = web.Application(middlewares=[_record, inject_faults(), _refusals])
    app[ACCOUNT] = Account(
        private_key=private_key,
        public_key=public_key,
        org_id=org_id,
        assistant_ids=frozenset((assistant_id, *scripts)),
    )
    app[SWITCH] = Switch()
    app[ASSISTANT] = AssistantAnswer()
    app[CALLS] = CallStore() if calls is None else calls
    app[CALL_LIST] = CallListFaults()
    app[ROOMS] = Rooms(calls=app[CALLS], tool=tool, scripts=scripts, pace=pace)
    app[REQUESTS] = deque(maxlen=10_000)
    app.router.add_get("/assistant/{id}", _assistant)
    app.router.add_get("/call", _call_list)
    app.router.add_post("/call/web", _call_web)
    app.router.add_get("/room/{id}", room)
    app.router.add_post("/{id}/control", control_call)
    for path in ("/call/web", "/{id}/control"):
        app.router.add_options(path, _preflight)
    app.on_response_prepare.append(_open_to_every_origin)
    app.on_shutdown.extend((release_stuck, close_rooms))
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
        return error_response(refusal.status, refusal.message)
    except web.HTTPNotFound:
        return error_response(404, f"Cannot {request.method} {request.path}")


async def _preflight(_: web.Request) -> web.Response:
    allowed = {
        "Access-Control-Allow-Headers": "authorization, content-type",
        "Access-Control-Allow-Methods": "GET, POST",
    }
    return web.Response(status=204, headers=allowed)


async def _open_to_every_origin(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Access-Control-Allow-Origin"] = "*"


async def _assistant(request: web.Request) -> web.Response:
    account, named = request.app[ACCOUNT], request.match_info["id"]
    account.require_private(_bearer(request))
    if not is_uuid(named):
        raise Refusal(400, ["id must be a UUID"])
    if named not in account.assistant_ids:
        raise Refusal(404, f"Couldn't Get Assistant. `assistantId` {named} Does Not Exist.")
    now = timestamp()
    model = {
        "provider": "openai",
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": PROMPT}],
    }
    said = request.app[ASSISTANT]
    response = answer(
        {
            "id": named,
            "orgId": account.org_id,
            "name": request.app[ROOMS].scripts.get(named, ENGLISH).name,
            "createdAt": now,
            "updatedAt": now,
            "model": model,
            **({"monitorPlan": said.monitor_plan} if said.monitor_plan else {}),
        }
    )
    response.headers[hdrs.DATE] = formatdate(time() + said.clock_ahead, usegmt=True)
    return response


async def _call_web(request: web.Request) -> web.Response:
    account, origin = request.app[ACCOUNT], request.headers.get("Origin", "")
    requested = parse_call_request(await request.read())
    grant = account.grant(_bearer(request))
    grant.restrictions.check(requested, origin)
    requested.validate()
    _require_known(account, requested)
    if request.query.get("simulate") == "over-concurrency-limit":
        raise Refusal(400, OVER_CONCURRENCY_LIMIT)
    call = new_call(account.org_id, requested, request.url.origin())
    request.app[CALLS].add(WebCall(call, grant.credential_type, origin))
    return answer(call, 201)


async def _call_list(request: web.Request) -> web.Response:
    request.app[ACCOUNT].require_private(_bearer(request))
    return list_calls(request)


def _require_known(account: Account, requested: CallRequest) -> None:
    if requested.beyond_assistant is not None:
        raise Refusal(403, UNKNOWN_BEHAVIOUR.format(requested.beyond_assistant))
    named = requested.assistant_id
    if named is not None and named not in account.assistant_ids:
        raise Refusal(400, f"Couldn't Get Assistant. `assistantId` {named} Does Not Exist.")


def _bearer(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")

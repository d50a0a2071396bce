"""The rooms of calls, over WebSockets: who is in one, what is said, and how a call ends."""

from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpClient

from rig.waiting import eventually
from sandbox.vapi.app import create_vapi
from sandbox.vapi.call_list import CALLS
from sandbox.vapi.calls import CallStore
from sandbox.vapi.conversation import ENGLISH
from sandbox.vapi.room import ROOMS, Tool
from tests.sandbox.vapi.conftest import Clock, PlainServer
from tests.sandbox.vapi.support import ASSISTANT, ORG, PRIVATE, PUBLIC, Client, call_web

NO_AUDIO = "call.in-progress.error-assistant-did-not-receive-customer-audio"


async def join(
    vapi: Client, query: str = "", **more: Any
) -> tuple[str, ClientWebSocketResponse[bool]]:
    """Start a call and join its room; `more` are fields of the call."""
    answer = await call_web(vapi, PUBLIC, {"assistantId": ASSISTANT, **more})
    call = await answer.json()
    assert answer.status == 201, call
    return call["id"], await vapi.ws_connect(f"/room/{call['id']}{query}")


async def listen(
    socket: ClientWebSocketResponse[bool], until: str = "the end"
) -> list[dict[str, Any]]:
    """Return the messages up to a transcript, or up to the end of the call."""
    heard = []
    async for frame in socket:
        if frame.data != "listening":
            heard.append(frame.json())
            if heard[-1].get("transcript") == until:
                break
    return heard


def said(heard: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(m["role"], m["transcript"]) for m in heard if m.get("transcriptType") == "final"]


def ended_reason(vapi: Client, call_id: str) -> Any:
    kept = vapi.app[CALLS].get(call_id)
    assert kept is not None
    return kept.call.ended_reason


async def is_over(vapi: Client, call_id: str) -> None:
    async def ended() -> bool:
        return call_id not in vapi.app[CALLS].active

    await eventually(ended)


async def test_conversation_without_a_tool(vapi: Client) -> None:
    call_id, socket = await join(vapi)
    frame = await socket.receive()
    assert (frame.type, frame.data) == (WSMsgType.TEXT, "listening")
    heard = await listen(socket, ENGLISH.farewell)
    assert said(heard) == [
        ("assistant", ENGLISH.greeting),
        ("user", ENGLISH.question),
        ("assistant", ENGLISH.no_answer),
        ("user", ENGLISH.thanks),
        ("assistant", ENGLISH.farewell),
    ]
    (result,) = [m["toolCallResult"] for m in heard if m["type"] == "tool-calls-result"]
    assert result["error"] == "this assistant has no tool"
    kept = vapi.app[CALLS].get(call_id)
    assert kept is not None
    assert (kept.call.status, bool(kept.call.started_at)) == ("in-progress", True)


async def test_tool_is_called_by_a_signed_webhook(aiohttp_client: AiohttpClient) -> None:
    received: list[Any] = []

    async def tool(request: web.Request) -> web.Response:
        received.append((request.headers, await request.json()))
        call_id = received[0][1]["message"]["toolCallList"][0]["id"]
        result = {"toolCallId": call_id, "result": '{"results": "Iron 90"}'}
        return web.json_response({"results": [result]})

    server = web.Application()
    server.router.add_post("/webhook", tool)
    async with TestServer(server) as running:
        app = create_vapi(
            private_key=PRIVATE,
            public_key=PUBLIC,
            org_id=ORG,
            assistant_id=ASSISTANT,
            tool=Tool(url=str(running.make_url("/webhook")), secret="secret"),
            pace=0.001,
        )
        vapi: Any = await aiohttp_client(PlainServer(app))
        call_id, socket = await join(vapi)
        heard = await listen(socket, ENGLISH.answer.format(results="Iron 90"))
        await socket.close()
        await is_over(vapi, call_id)
    ((headers, webhook),) = received
    assert len(headers["x-signature"]) == 64
    assert webhook["message"]["call"]["id"] == call_id
    assert [m["type"] for m in heard].index("tool-calls") < len(heard)


async def test_place_is_free_once_the_client_leaves(vapi: Client) -> None:
    for _ in range(4):  # the limit is three
        call_id, socket = await join(vapi)
        await socket.close()
        await is_over(vapi, call_id)
        assert ended_reason(vapi, call_id) == "customer-ended-call"


async def test_place_is_free_once_the_client_vanishes(aiohttp_client: AiohttpClient) -> None:
    app = _app(CallStore())
    app[ROOMS].heartbeat = 0.1
    vapi: Any = await aiohttp_client(PlainServer(app))
    answer = await call_web(vapi, PUBLIC)
    call_id = (await answer.json())["id"]
    silent = await vapi.ws_connect(f"/room/{call_id}", autoping=False)
    await is_over(vapi, call_id)
    assert ended_reason(vapi, call_id) == "customer-ended-call"
    await silent.close()


async def test_room_that_is_kept_can_be_joined_again(vapi: Client, clock: Clock) -> None:
    call_id, socket = await join(vapi, roomDeleteOnUserLeaveEnabled=False)
    await listen(socket, ENGLISH.farewell)
    await socket.close()
    again = await vapi.ws_connect(f"/room/{call_id}")
    assert (await again.receive()).data == "listening"
    assert (await again.receive_json())["status"] == "in-progress"
    await again.close()
    clock.now += 10
    await is_over(vapi, call_id)
    assert ended_reason(vapi, call_id) == NO_AUDIO


async def test_call_without_audio_ends_after_its_own_time(vapi: Client, clock: Clock) -> None:
    overrides = {"customerJoinTimeoutSeconds": 30}
    call_id, socket = await join(vapi, "?audio=off", assistantOverrides=overrides)
    clock.now += 29
    assert call_id in vapi.app[CALLS].active
    clock.now += 1
    assert call_id not in vapi.app[CALLS].active
    assert await listen(socket) == [
        {"type": "status-update", "status": "ended", "endedReason": NO_AUDIO}
    ]


@pytest.mark.parametrize("where", ["assistantOverrides", "assistant"])
async def test_call_ends_after_its_maximum(vapi: Client, clock: Clock, where: str) -> None:
    more: dict[str, Any] = {where: {"maxDurationSeconds": 10}}
    if where == "assistant":
        more["assistantId"] = None
    call_id, socket = await join(vapi, **more)
    await listen(socket, ENGLISH.farewell)
    clock.now += 10
    assert call_id not in vapi.app[CALLS].active
    assert (await listen(socket))[-1]["endedReason"] == "exceeded-max-duration"


def _app(calls: CallStore) -> web.Application:
    return create_vapi(
        private_key=PRIVATE, public_key=PUBLIC, org_id=ORG, assistant_id=ASSISTANT, calls=calls
    )


async def test_client_asks_the_assistant_to_speak_and_to_end(vapi: Client) -> None:
    call_id, socket = await join(vapi)
    await listen(socket, ENGLISH.farewell)
    for junk in ("junk", "7", '{"type": "control"}'):
        await socket.send_str(junk)
    await socket.send_bytes(b"\xff")
    await socket.send_json({"type": "say", "message": "Take care."})
    assert said(await listen(socket, "Take care.")) == [("assistant", "Take care.")]
    await socket.send_json({"type": "say", "message": "Now", "endCallAfterSpoken": True})
    assert (await listen(socket))[-1]["status"] == "ended"
    assert ended_reason(vapi, call_id) == "assistant-ended-call-after-message-spoken"
    call_id, socket = await join(vapi)
    await socket.send_json({"type": "end-call"})
    assert (await listen(socket))[-1]["endedReason"] == "customer-ended-call"


async def test_room_of_no_active_call_is_closed(vapi: Client) -> None:
    call_id, socket = await join(vapi, roomDeleteOnUserLeaveEnabled=False)
    await vapi.post(f"/{call_id}/control", json={"type": "end-call"})
    assert (await listen(socket))[-1]["endedReason"] == "assistant-ended-call"
    for each in (call_id, "unknown"):
        assert (await vapi.get(f"/room/{each}")).status == 404


async def test_simulated_limit(vapi: Client) -> None:
    headers = {"Authorization": f"Bearer {PUBLIC}"}
    url = "/call/web?simulate=over-concurrency-limit"
    refused = await vapi.post(url, json={"assistantId": ASSISTANT}, headers=headers)
    assert (await refused.json())["message"] == "Over Concurrency Limit"


@pytest.mark.parametrize(
    ("limit", "value", "fault"),
    [
        ("customerJoinTimeoutSeconds", 0, "must not be less than 1"),
        ("customerJoinTimeoutSeconds", 61, "must not be greater than 60"),
        ("maxDurationSeconds", 9, "must not be less than 10"),
        ("maxDurationSeconds", 43_201, "must not be greater than 43200"),
        ("maxDurationSeconds", "600", "must be a number"),
        ("maxDurationSeconds", True, "must be a number"),
    ],
)
async def test_limits_have_bounds(vapi: Client, limit: str, value: Any, fault: str) -> None:
    body = {"assistantId": ASSISTANT, "assistantOverrides": {limit: value}}
    refused = await call_web(vapi, PUBLIC, body)
    assert refused.status == 400
    assert (await refused.json())["message"] == [f"assistantOverrides.{limit} {fault}"]


async def test_shutdown_does_not_wait_for_calls(aiohttp_client: AiohttpClient) -> None:
    vapi: Any = await aiohttp_client(PlainServer(_app(CallStore())))
    _, socket = await join(vapi)
    await socket.receive()
    await vapi.server.close()
    async for _ in socket:
        pass
    assert socket.closed


async def test_time_alone_ends_a_call(aiohttp_client: AiohttpClient) -> None:
    vapi: Any = await aiohttp_client(PlainServer(_app(CallStore(seconds=0.05))))
    _, socket = await join(vapi, "?audio=off")
    assert (await listen(socket))[-1]["endedReason"] == NO_AUDIO

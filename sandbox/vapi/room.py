"""The room of a call, in place of Daily's: a WebSocket that carries Vapi's messages and no audio.

The client is in the room while the connection is open. `?audio=off` joins without a microphone.
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

import msgspec
from aiohttp import ClientError, ClientSession, WSMessage, web

from sandbox.tools.webhook import Webhook, make_webhook
from sandbox.vapi.calls import Call, CallStore
from sandbox.vapi.conversation import ENGLISH, PACE_SECONDS, Script, converse, speak
from sandbox.vapi.errors import Refusal

_HEARTBEAT_SECONDS: Final = 5.0
"""A client that answers no ping for half of this has vanished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """The tool server that the assistant calls, and the secret that signs the webhooks."""

    url: str
    secret: str


@dataclass(slots=True, kw_only=True)
class Rooms:
    """How conversations go: the tool, None without one; the scripts by assistant; the pace."""

    calls: CallStore
    tool: Tool | None = None
    scripts: Mapping[str, Script] = field(default_factory=dict)
    pace: float = PACE_SECONDS
    heartbeat: float = _HEARTBEAT_SECONDS
    # The calls whose conversation was held already: a client that comes back does not repeat it.
    held: set[str] = field(default_factory=set)
    # The tasks of the open rooms, which shutdown cancels.
    open: set[asyncio.Task[object]] = field(default_factory=set)


ROOMS = web.AppKey("rooms", Rooms)


async def room(request: web.Request) -> web.StreamResponse:
    """Let a client join a call, hold the conversation, and note when the client leaves."""
    rooms, call_id = request.app[ROOMS], request.match_info["id"]
    kept = rooms.calls.get(call_id)
    if kept is None or call_id not in rooms.calls.active:
        raise Refusal(404, "Meeting has ended")
    socket = web.WebSocketResponse(heartbeat=rooms.heartbeat)
    await socket.prepare(request)
    task = cast("asyncio.Task[object]", asyncio.current_task())
    rooms.open.add(task)
    try:
        await _Visit(rooms, kept.call, socket).attend(audio=request.query.get("audio") != "off")
    finally:
        rooms.open.discard(task)
        rooms.calls.leave(call_id)
    return socket


async def close_rooms(app: web.Application) -> None:
    """Leave every room, so that shutdown does not wait for the calls."""
    for task in app[ROOMS].open:
        task.cancel()


@dataclass(frozen=True, slots=True)
class _Visit:
    """A client in the room of a call."""

    rooms: Rooms
    call: Call
    socket: web.WebSocketResponse

    async def attend(self, *, audio: bool) -> None:
        """Stay until the client leaves or the call ends."""
        tasks = [asyncio.create_task(self._tell_end())]
        if audio:
            self.rooms.calls.join(self.call.id)
            tasks.append(asyncio.create_task(self._talk()))
        try:
            async for frame in self.socket:
                await self._obey(_read(frame))
        finally:
            for task in tasks:
                task.cancel()

    async def _send(self, message: Mapping[str, Any]) -> None:
        # The client may leave at any time; `attend` notices.
        with suppress(ConnectionError):
            await self.socket.send_json(message)

    async def _tell_end(self) -> None:
        reason = await self.rooms.calls.until_ended(self.call.id)
        await self._send({"type": "status-update", "status": "ended", "endedReason": reason})
        await self.socket.close()

    async def _talk(self) -> None:
        # In Vapi's protocol this bare word says that the assistant listens.
        with suppress(ConnectionError):
            await self.socket.send_str("listening")
        await self._send({"type": "status-update", "status": "in-progress"})
        rooms = self.rooms
        if self.call.id not in rooms.held:
            rooms.held.add(self.call.id)
            script = rooms.scripts.get(str(self.call.assistant_id), ENGLISH)
            await converse(script, self._send, self._call_tool, rooms.pace)

    async def _obey(self, message: Mapping[str, Any]) -> None:
        """Do what a client asks for by the SDK's `say` and `end`; ignore everything else."""
        if message.get("type") == "end-call":
            self.rooms.calls.end(self.call.id, "customer-ended-call")
        elif message.get("type") == "say":
            await speak(self._send, "assistant", str(message.get("message")), self.rooms.pace)
            if message.get("endCallAfterSpoken"):
                self.rooms.calls.end(self.call.id, "assistant-ended-call-after-message-spoken")

    async def _call_tool(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        tool = self.rooms.tool
        webhook = make_webhook(self.call, "" if tool is None else tool.secret)
        (tool_call,) = msgspec.json.decode(webhook.body)["message"]["toolCallList"]
        try:
            return tool_call, await _post(tool, webhook)
        except (ClientError, TypeError, ValueError, LookupError) as error:
            return tool_call, {"toolCallId": tool_call["id"], "error": str(error)}


def _read(frame: WSMessage) -> Mapping[str, Any]:
    try:
        message = json.loads(frame.data)
    except (TypeError, ValueError):
        return {}
    return message if isinstance(message, dict) else {}


async def _post(tool: Tool | None, webhook: Webhook) -> dict[str, Any]:
    if tool is None:
        raise LookupError("this assistant has no tool")
    async with (
        ClientSession() as client,
        client.post(tool.url, data=webhook.body, headers=webhook.headers) as response,
    ):
        result: dict[str, Any] = (await response.json())["results"][0]
        return result

"""The switch for faults, the middleware that injects them, and a handler for each."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from sandbox.vapi.behaviour import UP, Behaviour, Fault
from sandbox.vapi.errors import error_response


@dataclass(slots=True)
class Switch:
    """The current behaviour, which can be assigned at any time."""

    behaviour: Behaviour = UP
    # Requests that may never end by themselves; shutdown cancels them.
    stuck: set[asyncio.Task[object]] = field(default_factory=set)


SWITCH = web.AppKey("switch", Switch)


def inject_faults() -> Middleware:
    """Return the middleware that fails requests according to the switch."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        switch = request.app[SWITCH]
        # When a preflight fails, a page cannot read Vapi's answer.
        if switch.behaviour.fault is Fault.NONE or request.method == hdrs.METH_OPTIONS:
            return await handler(request)
        return await _fail(request, switch)

    return middleware


async def release_stuck(app: web.Application) -> None:
    """Cancel the stuck requests, so that shutdown does not wait for them."""
    for task in app[SWITCH].stuck:
        task.cancel()


async def _fail(request: web.Request, switch: Switch) -> web.StreamResponse:
    task = cast("asyncio.Task[object]", asyncio.current_task())
    switch.stuck.add(task)
    try:
        return await _FAILURES[switch.behaviour.fault](request, switch.behaviour)
    finally:
        switch.stuck.discard(task)


HUGE_BYTES = 50 * 1024 * 1024
_CHUNK = bytes(1024 * 1024)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Filler: "


async def _status(_: web.Request, behaviour: Behaviour) -> web.StreamResponse:
    response = error_response(behaviour.status)
    # For redirects; clients ignore it with other statuses.
    response.headers["Location"] = "/moved"
    return response


async def _hang(_: web.Request, __: Behaviour) -> web.StreamResponse:
    # Only cancellation ends this wait.
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


async def _trickle_headers(request: web.Request, behaviour: Behaviour) -> web.StreamResponse:
    transport = _transport(request)
    transport.write(_HEAD)
    while not transport.is_closing():
        transport.write(b"x")
        await asyncio.sleep(behaviour.pause)
    return web.Response()


async def _trickle_body(request: web.Request, behaviour: Behaviour) -> web.StreamResponse:
    response = web.StreamResponse()
    with suppress(ConnectionError):
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(behaviour.pause)
    return response


async def _junk(request: web.Request, _: Behaviour) -> web.StreamResponse:
    transport = _transport(request)
    transport.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    transport.close()
    # Not sent: the transport is closed.
    return web.Response()


async def _huge(request: web.Request, _: Behaviour) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(HUGE_BYTES)})
    with suppress(ConnectionError):
        await response.prepare(request)
        for _part in range(HUGE_BYTES // len(_CHUNK)):
            await response.write(_CHUNK)
    return response


async def _reset(request: web.Request, _: Behaviour) -> web.StreamResponse:
    transport = _transport(request)
    # A linger of zero seconds turns the close into an RST.
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    return web.Response()


def _transport(request: web.Request) -> asyncio.WriteTransport:
    return cast("asyncio.WriteTransport", request.transport)


_FAILURES: dict[Fault, Callable[[web.Request, Behaviour], Awaitable[web.StreamResponse]]] = {
    Fault.STATUS: _status,
    Fault.HANG: _hang,
    Fault.TRICKLE_HEADERS: _trickle_headers,
    Fault.TRICKLE_BODY: _trickle_body,
    Fault.JUNK: _junk,
    Fault.HUGE: _huge,
    Fault.RESET: _reset,
}

"""The ways in which the stand-in can be made to fail, switchable while it runs."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

HUGE_BYTES = 50 * 1024 * 1024
_CHUNK = bytes(1024 * 1024)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Filler: "


class Fault(StrEnum):
    """One way to fail."""

    NONE = "none"
    STATUS = "status"
    HANG = "hang"
    TRICKLE_HEADERS = "trickle_headers"
    TRICKLE_BODY = "trickle_body"
    JUNK = "junk"
    HUGE = "huge"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What happens to each request; `status` is for `STATUS`, `pause` (seconds) for a trickle."""

    fault: Fault = Fault.NONE
    status: int = 503
    pause: float = 1.0


UP = Behaviour()


@dataclass(slots=True)
class Switch:
    """Holds the behaviour in force; assign to `behaviour` at any time."""

    behaviour: Behaviour = UP
    # Requests that may never end by themselves: the server's shutdown cancels them.
    stuck: set[asyncio.Task[object]] = field(default_factory=set)


SWITCH = web.AppKey("switch", Switch)


def envelope(status: int, message: str) -> web.Response:
    """Answer in the shape of Vapi's errors."""
    error = HTTPStatus(status).phrase
    body = {"message": message, "error": error, "statusCode": status}
    return web.json_response(body, status=status)


def misbehave() -> Middleware:
    """Build the middleware that fails requests as the switch says."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        switch = request.app[SWITCH]
        if switch.behaviour.fault is Fault.NONE:
            return await handler(request)
        return await _fail(request, switch)

    return middleware


async def release_stuck(app: web.Application) -> None:
    """End the requests that hang, so that closing the server never waits for them."""
    for task in app[SWITCH].stuck:
        task.cancel()


async def _fail(request: web.Request, switch: Switch) -> web.StreamResponse:
    task = asyncio.current_task()
    assert task is not None
    switch.stuck.add(task)
    try:
        return await _FAULTS[switch.behaviour.fault](request, switch.behaviour)
    finally:
        switch.stuck.discard(task)


async def _status(_: web.Request, behaviour: Behaviour) -> web.StreamResponse:
    response = envelope(behaviour.status, HTTPStatus(behaviour.status).phrase)
    # Means something with a redirect only, and does no harm beside it.
    response.headers["Location"] = "/moved"
    return response


async def _hang(_: web.Request, __: Behaviour) -> web.StreamResponse:
    # Nothing ends this wait but cancellation.
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
    transport.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    transport.close()
    # Nothing of this is sent: the transport is closed.
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
    transport = request.transport
    assert isinstance(transport, asyncio.WriteTransport)
    return transport


_FAULTS: dict[Fault, Callable[[web.Request, Behaviour], Awaitable[web.StreamResponse]]] = {
    Fault.STATUS: _status,
    Fault.HANG: _hang,
    Fault.TRICKLE_HEADERS: _trickle_headers,
    Fault.TRICKLE_BODY: _trickle_body,
    Fault.JUNK: _junk,
    Fault.HUGE: _huge,
    Fault.RESET: _reset,
}

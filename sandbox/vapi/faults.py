"""The switch for faults, and the middleware that injects them."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from sandbox.vapi.behaviour import UP, Behaviour, Fault
from sandbox.vapi.failures import FAILURES


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
        return await FAILURES[switch.behaviour.fault](request, switch.behaviour)
    finally:
        switch.stuck.discard(task)

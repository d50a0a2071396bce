"""The running stand-in for Vapi, with the account of the rig's settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from rig.service import ASSISTANT_ID, ORG_ID, PRIVATE_KEY, PUBLIC_KEY
from sandbox.vapi.app import REQUESTS, create_vapi
from sandbox.vapi.behaviour import Behaviour
from sandbox.vapi.calls import CallStore
from sandbox.vapi.faults import SWITCH


@dataclass(frozen=True, slots=True)
class StandIn:
    """The running stand-in for Vapi."""

    url: str
    app: web.Application

    def behave(self, behaviour: Behaviour) -> None:
        """Change the behaviour from now on."""
        self.app[SWITCH].behaviour = behaviour

    @property
    def requests(self) -> list[str]:
        """The method and path of each request so far."""
        requests = self.app[REQUESTS]
        return list(requests)


def make_vapi(calls: CallStore | None = None) -> web.Application:
    """Return the stand-in with the account of the settings of the tests."""
    return create_vapi(
        private_key=PRIVATE_KEY,
        public_key=PUBLIC_KEY,
        org_id=ORG_ID,
        assistant_id=ASSISTANT_ID,
        calls=calls,
    )


@asynccontextmanager
async def vapi(
    behaviour: Behaviour | None = None,
    calls: CallStore | None = None,
    app: web.Application | None = None,
) -> AsyncIterator[StandIn]:
    """Run the stand-in, by default with the account of the settings of the tests."""
    app = make_vapi(calls) if app is None else app
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stand_in = StandIn(f"http://127.0.0.1:{runner.addresses[0][1]}", app)
        if behaviour is not None:
            stand_in.behave(behaviour)
        yield stand_in
    finally:
        await runner.cleanup()

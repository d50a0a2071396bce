"""The stand-in on a real socket, with room for three calls and a clock of its own."""

from typing import Any, cast

import pytest
from aiohttp import web_runner
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpClient

from sandbox.vapi.app import create_vapi
from sandbox.vapi.calls import CallStore
from tests.sandbox.vapi.support import ASSISTANT, ORG, PRIVATE, PUBLIC, Client


class PlainServer(TestServer):
    """Serves as in use: a client that disconnects does not cancel the handler."""

    async def _make_runner(self, **kwargs: Any) -> web_runner.BaseRunner:
        return await super()._make_runner(**{**kwargs, "handler_cancellation": False})


class Clock:
    """A clock that the test moves, in seconds."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the stand-in's calls."""
    return Clock()


@pytest.fixture
async def vapi(aiohttp_client: AiohttpClient, clock: Clock) -> Client:
    """Serve the stand-in on a free port."""
    app = create_vapi(
        private_key=PRIVATE,
        public_key=PUBLIC,
        org_id=ORG,
        assistant_id=ASSISTANT,
        calls=CallStore(limit=3, seconds=10, clock=clock),
        pace=0.001,
    )
    return cast("Client", await aiohttp_client(PlainServer(app)))

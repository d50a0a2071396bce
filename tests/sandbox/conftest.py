"""Development mode on free ports."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from sandbox.development import Companions, create_development
from sandbox.serving import bind, origin, serving
from sandbox.settings import development_settings
from tests.sandbox.support import SECRET, Sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Run development mode."""
    own = bind()
    companions = Companions(vapi=bind(), lab=bind(), tokens=bind(), tools=bind(), mobile=bind())
    port = origin(own).rpartition(":")[2]
    settings = development_settings({"PORT": port}, origin(companions.vapi))
    app = create_development(settings, companions, SECRET)
    async with serving(app, own), ClientSession() as client:
        running = Sandbox(settings, companions, client)
        async with client.get(f"{running.url}/playground/config.json") as answer:
            running.config = await answer.json()
        yield running

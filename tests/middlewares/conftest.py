"""Fixtures for the tests of single links."""

from typing import Any

import pytest
from aiohttp.typedefs import Middleware
from hypothesis import HealthCheck, settings
from pytest_aiohttp import AiohttpClient

from tests.middlewares.support import Alone, Client, application

# How long an example takes says more of the machine than of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def alone(aiohttp_client: AiohttpClient) -> Alone:
    """Serve links on a bare application: `client = await alone(link, handler=…, given=…)`."""

    async def start(*links: Middleware, **options: Any) -> Client:
        return await aiohttp_client(application(*links, **options))

    return start

"""Fixtures for the tests of single middlewares."""

from typing import Any

import pytest
from aiohttp.typedefs import Middleware
from pytest_aiohttp import AiohttpClient

from tests.middlewares.support import Alone, Client, application


@pytest.fixture
def alone(aiohttp_client: AiohttpClient) -> Alone:
    """Serve middlewares on a bare application: `await alone(middleware, handler=…, given=…)`."""

    async def start(*middlewares: Middleware, **options: Any) -> Client:
        return await aiohttp_client(application(*middlewares, **options))

    return start

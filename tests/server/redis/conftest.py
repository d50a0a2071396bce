"""Fixtures for the tests of Redis."""

from collections.abc import AsyncIterator

import pytest

from rig.redis_server import RedisServer
from rig.tcp_proxy import TcpProxy
from server.redis.client import RedisClient, RedisState
from tests.server.redis.support import reaches, running


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[TcpProxy]:
    """Run a proxy in front of the server; a test sets its delay."""
    proxy = TcpProxy(redis_server.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[RedisClient]:
    """Run a client, and wait until Redis is up."""
    async with running(redis_server.url) as client:
        await reaches(client, RedisState.UP)
        yield client

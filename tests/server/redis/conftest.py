"""Fixtures for the tests of Redis."""

from collections.abc import AsyncIterator

import pytest

from rig.redis_server import RedisServer
from rig.tcp_proxy import TcpProxy
from server.redis import client as client_module
from server.redis import connection
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe and retry in a fifth of the time; wait for connections and answers half as long."""
    monkeypatch.setattr(client_module, "_PROBE_SECONDS", 0.1)
    monkeypatch.setattr(client_module, "_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(client_module, "_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(client_module, "_MAX_RETRY_SECONDS", 0.4)
    monkeypatch.setattr(connection, "_CONNECT_SECONDS", 1.0)

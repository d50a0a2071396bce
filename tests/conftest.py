"""Fixtures for all tests."""

import json
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.redis_server import RedisServer
from tests.support import Service, make_settings, running

Serve = Callable[..., Awaitable[Service]]
AuditLines = Callable[[], list[dict[str, Any]]]

# The duration of an example depends on the machine.
settings.register_profile(
    "no_deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no_deadline")


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Undo changes of the process's logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start the service with these variables: `service = await serve(RATE_LIMIT="off")`."""
    async with AsyncExitStack() as stack:

        async def start(**variables: str) -> Service:
            return await stack.enter_async_context(running(make_settings(**variables)))

        yield start


@pytest.fixture
async def service(serve: Serve) -> Service:
    """Start the service with the default settings of the tests."""
    return await serve()


@pytest.fixture
def audit_lines(capsys: pytest.CaptureFixture[str]) -> AuditLines:
    """Return the audit lines written since the last call."""

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return lines


@pytest.fixture
async def redis_server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """Run a redis-server; skip the test when it is not installed."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian: apt install redis-server)")
    server = RedisServer(tmp_path)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()

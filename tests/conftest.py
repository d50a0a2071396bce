"""Fixtures for all tests."""

import asyncio
import json
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from rig.process import Ended
from rig.redis_server import RedisServer
from rig.service import VARIABLES, Service, make_settings, running
from server.cli.main import main
from server.config.settings import IN_EITHER_CASE
from server.config.settings import VARIABLES as NAMES
from server.observability.audit_log import AuditLog

Serve = Callable[..., Awaitable[Service]]
AuditLines = Callable[[], list[dict[str, Any]]]
Command = Callable[..., Awaitable[Ended]]

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
    for handler in set(root.handlers).difference(handlers):
        handler.close()
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


@pytest.fixture(autouse=True)
def audit_logs(monkeypatch: pytest.MonkeyPatch) -> list[AuditLog]:
    """Return the audit logs of all applications of the test."""
    created: list[AuditLog] = []

    def create(descriptor: int) -> AuditLog:
        created.append(AuditLog(descriptor))
        return created[-1]

    monkeypatch.setattr("server.components.AuditLog", create)
    return created


@pytest.fixture
def audit_lines(capfd: pytest.CaptureFixture[str], audit_logs: Sequence[AuditLog]) -> AuditLines:
    """Return the audit lines written since the last call."""

    def lines() -> list[dict[str, Any]]:
        while any(audit_log.waiting_lines for audit_log in audit_logs):
            sleep(0.001)  # a thread writes them
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    return lines


@pytest.fixture
def unconfigured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Unset all variables of the service, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES | IN_EITHER_CASE.keys():
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def configured(unconfigured: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set the variables of a valid configuration, in an empty working directory."""
    for name, value in VARIABLES.items():
        unconfigured.setenv(name, value)
    return unconfigured


@pytest.fixture
def command(configured: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command in a thread of this process: `ended = await command("check", PORT="1")`.

    The variables stay set for the next command.
    """

    async def run(*arguments: str, **variables: str) -> Ended:
        for name, value in variables.items():
            configured.setenv(name, value)
        try:
            status = await asyncio.to_thread(main, arguments)
        except SystemExit as ended:
            status = int(str(ended.code))
        return Ended(status, *capfd.readouterr())

    return run


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

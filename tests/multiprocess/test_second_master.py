"""USR2: a second master starts beside the first, and either may leave the service to the other."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.issuer import eventually
from tests.multiprocess.conftest import Start
from tests.multiprocess.support import GUNICORN, Running, ask, http
from tests.multiprocess.test_metrics_together import made_in

# By its own name: a master that starts another repeats how it was started.
ONE_WORKER = (str(Path(sys.executable).with_name("gunicorn")), *GUNICORN[3:], "1")


@asynccontextmanager
async def second_master(service: Running) -> AsyncIterator[int]:
    """Have the master start a second one, that leaves in the end; give that one's process id."""
    first = service.process.pid
    service.process.send_signal(signal.SIGUSR2)
    second = int((await service.log.find(rf"Listening at: \S+ \((?!{first}\))(\d+)\)"))[1])
    try:
        yield second
    finally:
        with suppress(ProcessLookupError):
            os.kill(second, signal.SIGTERM)


async def first_leaves(service: Running) -> None:
    """Have the first master leave; asyncio's own wait would be for the second's output as well."""

    async def has_left() -> bool:
        return service.process.returncode is not None

    service.process.terminate()
    await eventually(has_left)
    assert service.process.returncode == 0


async def statuses(service: Running, path: str) -> list[int]:
    """Ask over new connections; whoever is not let in waits in vain."""
    async with asyncio.timeout(10):
        return [(await ask(service.port, http("GET", path))).status for _ in range(5)]


async def test_the_second_master_serves_when_the_first_has_left(start: Start) -> None:
    service = await start(ONE_WORKER)
    async with second_master(service):
        await first_leaves(service)
        assert await statuses(service, "/healthz") == [200] * 5
    await service.log.whole()
    with pytest.raises(ConnectionRefusedError):
        await statuses(service, "/healthz")


async def test_the_first_master_serves_on_when_the_second_has_left(start: Start) -> None:
    service = await start(ONE_WORKER)
    async with second_master(service) as second:
        os.kill(second, signal.SIGTERM)
        await service.log.find(r"Shutting down: Master\.2")
        assert await statuses(service, "/healthz") == [200] * 5
    service.process.terminate()
    assert await service.left() == 0


async def test_the_metrics_of_the_second_master_outlive_the_first(
    start: Start, tmp_path: Path
) -> None:
    service = await start(ONE_WORKER, METRICS_ENABLED="true", TMPDIR=str(tmp_path))
    service.process.send_signal(signal.SIGHUP)  # the configuration is read anew
    await service.log.find("Worker exiting")
    async with second_master(service):
        await first_leaves(service)
        assert len(made_in(tmp_path)) == 1
        assert await statuses(service, "/metrics") == [200] * 5
    await service.log.whole()
    assert made_in(tmp_path) == []

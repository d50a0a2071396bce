"""USR2: a second master starts beside the first, and either can continue alone."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from rig.process import ONE_WORKER, Running
from rig.waiting import eventually
from rig.wire import exchange, get
from tests.multiprocess.conftest import Start
from tests.multiprocess.test_shared_metrics import mapped_folders


@asynccontextmanager
async def second_master(service: Running) -> AsyncIterator[int]:
    """Let the master start a second one; yield its process id, and terminate it at the end."""
    first = service.process.pid
    service.process.send_signal(signal.SIGUSR2)
    second = int((await service.log.find(rf"Listening at: \S+ \((?!{first}\))(\d+)\)"))[1])
    try:
        yield second
    finally:
        with suppress(ProcessLookupError):
            os.kill(second, signal.SIGTERM)


async def terminate_first(service: Running) -> None:
    """Terminate the first master. `Process.wait` would wait for the output of the second, too."""

    async def has_ended() -> bool:
        return service.process.returncode is not None

    service.process.terminate()
    await eventually(has_ended)
    assert service.process.returncode == 0


async def statuses(service: Running, path: str) -> list[int]:
    """Send requests over new connections; fail when one is not accepted."""
    async with asyncio.timeout(10):
        return [(await exchange(service, get(path))).status for _ in range(5)]


async def test_first_master_serves_without_the_second(start: Start) -> None:
    service = await start(ONE_WORKER)
    async with second_master(service) as second:
        os.kill(second, signal.SIGTERM)
        await service.log.find(r"Shutting down: Master\.2")
        assert await statuses(service, "/healthz") == [200] * 5
    service.process.terminate()
    assert await service.left() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_metrics_of_the_second_master_outlive_the_first(start: Start) -> None:
    service = await start(ONE_WORKER, METRICS_ENABLED="true")
    service.process.send_signal(signal.SIGHUP)  # reloads the configuration
    await service.log.find("Worker exiting")
    async with second_master(service):
        assert await statuses(service, "/metrics") == [200] * 5
        await terminate_first(service)
        assert await statuses(service, "/metrics") == [200] * 5
        [folder] = mapped_folders(service.workers()[-1:])
        assert folder.is_dir()
    await service.log.whole()
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        await statuses(service, "/healthz")

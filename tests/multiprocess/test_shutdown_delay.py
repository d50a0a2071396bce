"""With `SHUTDOWN_DELAY_SECONDS`, new connections are served after SIGTERM; not after SIGHUP."""

import asyncio
import os
import signal
from pathlib import Path
from time import monotonic

import pytest
from aiohttp import ClientSession

from rig.process import TWO_WORKERS, Running, started
from rig.service import VARIABLES
from rig.waiting import eventually
from rig.wire import exchange, get
from tests.multiprocess.support import EITHER

READYZ = get("/readyz")
HEALTHZ = get("/healthz")


async def is_shutting_down(running: Running) -> bool:
    reply = await exchange(running, READYZ)
    return reply.status == 503


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@EITHER
async def test_new_connections_are_served_until_the_delay_ends(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    more = {"SHUTDOWN_DELAY_SECONDS": "1.5", "SHUTDOWN_GRACE_SECONDS": "2"}
    async with started(command, tmp_path, {**VARIABLES, **more}) as running:
        assert (await exchange(running, READYZ)).status == 200  # a worker serves
        began = monotonic()
        running.process.send_signal(signal.SIGTERM)
        await eventually(lambda: is_shutting_down(running))
        while monotonic() - began < 1:
            assert (await exchange(running, HEALTHZ)).status == 200
            await asyncio.sleep(0.05)
        assert await running.left() == 0
        assert monotonic() - began >= 1.5
        with pytest.raises(OSError):  # noqa: PT011  refused or reset
            await exchange(running, HEALTHZ)


async def test_reload_has_no_delay(tmp_path: Path) -> None:
    more = {"SHUTDOWN_DELAY_SECONDS": "12", "HOST": "::"}
    async with started(TWO_WORKERS, tmp_path, {**VARIABLES, **more}) as running:
        assert (await exchange(running, READYZ)).status == 200
        async with ClientSession() as client, client.get(f"http://[::1]:{running.port}") as answer:
            assert answer.status == 404  # all addresses are those of both families
        old = running.workers()
        running.process.send_signal(signal.SIGHUP)

        async def old_workers_have_left() -> bool:
            assert not await is_shutting_down(running)
            return not any(map(runs, old))

        await eventually(old_workers_have_left)
        running.process.kill()

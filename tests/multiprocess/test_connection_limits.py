"""Abuse at the door: clients that take places and time, and a good one who is served all the same.

`loadtests/idle_connections.py` measures the latency of the valid client.
"""

import asyncio
import resource
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.multiprocess.conftest import Start
from tests.multiprocess.support import ALONE, HOST, TWO_WORKERS, Running, ask, start_request

EITHER = pytest.mark.parametrize("command", [ALONE, TWO_WORKERS], ids=["alone", "gunicorn"])


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """Let this process, too, hold as many connections open; the service sees to itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def crowd(service: Running, count: int) -> AsyncIterator[list[StreamWriter]]:
    """Hold so many connections."""
    opened: list[tuple[StreamReader, StreamWriter]] = []
    try:
        while len(opened) < count:
            batch = (asyncio.open_connection(HOST, service.port) for _ in range(50))
            opened += await asyncio.gather(*batch)
        yield [writer for _, writer in opened]
    finally:
        for _, writer in opened:
            writer.close()


async def served(service: Running) -> list[int]:
    """Ask as a good client, over new connections."""
    return [(await ask(service.port, start_request(f"pt_{n}"))).status for n in range(10)]


@EITHER
async def test_two_thousand_idle_connections_leave_a_good_client_served(
    start: Start, command: Sequence[str]
) -> None:
    # Fewer open files than connections, as a login shell gives: the service is to ask for more.
    with_few_files = ("sh", "-c", 'ulimit -Sn 1024; exec "$@"', "sh", *command)
    service = await start(with_few_files, RATE_LIMIT="off")
    async with crowd(service, 2000):
        assert await served(service) == [200] * 10


@EITHER
async def test_three_hundred_dripping_connections_leave_a_good_client_served(
    start: Start, command: Sequence[str]
) -> None:
    service = await start(command, RATE_LIMIT="off")
    async with crowd(service, 300) as writers:
        for byte in start_request("pt_slow")[:5]:
            for writer in writers:
                writer.write(bytes([byte]))
            assert await served(service) == [200] * 10

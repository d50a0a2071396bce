"""Many, slow and idle connections, and a valid client that is still served.

`make bench-door` measures the latency of the valid client.
"""

import asyncio
import os
import resource
import signal
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from rig.process import ALONE, HOST, Running
from rig.waiting import eventually
from rig.wire import connected, exchange, get, read_answer, start_request
from tests.multiprocess.conftest import Start
from tests.multiprocess.support import EITHER


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """Raise the limit of open files of this process; the service raises its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def open_many(service: Running, count: int) -> AsyncIterator[list[StreamWriter]]:
    """Open `count` connections."""
    opened: list[StreamWriter] = []

    async def open_one() -> None:
        _, writer = await asyncio.open_connection(HOST, service.port)
        opened.append(writer)  # at once: the others may be cancelled

    try:
        while len(opened) < count:
            await asyncio.gather(*(open_one() for _ in range(50)))
        yield opened
    finally:
        for writer in opened:
            writer.close()


async def served(service: Running) -> list[int]:
    """Send valid requests over new connections."""
    return [(await exchange(service, start_request(f"pt_{n}"))).status for n in range(10)]


def limited(limit: str, command: Sequence[str]) -> Sequence[str]:
    """Return the command with a limit of `ulimit`."""
    return ("sh", "-c", f'ulimit {limit}; exec "$@"', "sh", *command)


async def is_closed(connection: tuple[StreamReader, StreamWriter]) -> bool:
    """Return whether the service has closed a connection; otherwise it answers a request."""
    reader, writer = connection
    try:
        writer.write(get("/healthz"))
        return (await read_answer(reader)).status != 200
    except (EOFError, OSError):
        return True


# The limit of open files leaves half of its files, and at most 64, for everything else.
@pytest.mark.parametrize(
    ("limit", "maximum", "accepted"), [("-n 1024", "20", 20), ("-n 100", "10000", 50)]
)
async def test_connections_beyond_the_maximum(
    start: Start, limit: str, maximum: str, accepted: int
) -> None:
    service = await start(limited(limit, ALONE), MAX_CONNECTIONS=maximum)
    async with AsyncExitStack() as stack:
        opened = []
        for count in (accepted, 9):  # connections that wait together are accepted in any order
            new = [await stack.enter_async_context(connected(service)) for _ in range(count)]
            assert not any([await is_closed(each) for each in new])
            opened += new
        closed = [await is_closed(each) for each in opened[:9]]
        assert closed == [True] * 9  # the ones that were idle longest made room

    async def has_recovered() -> bool:
        return bool(service.log.matching("after 9 were closed to make room"))

    await eventually(has_recovered)
    assert len(service.log.matching(f"{accepted} connections are open")) == 1
    assert len(service.log.matching('"WARNING"')) == 1
    assert await served(service) == [200] * 10


@EITHER
async def test_valid_client_beside_2000_idle_connections(
    start: Start, command: Sequence[str]
) -> None:
    # The service raises its soft limit of open files, which is lower in a login shell.
    service = await start(limited("-Sn 1024", command), RATE_LIMIT="off")
    async with open_many(service, 2000):
        assert await served(service) == [200] * 10


async def test_valid_client_beside_300_slow_connections(start: Start) -> None:
    service = await start(ALONE, RATE_LIMIT="off")
    async with open_many(service, 300) as writers:
        for byte in start_request("pt_slow")[:5]:
            for writer in writers:
                writer.write(bytes([byte]))
            assert await served(service) == [200] * 10


@EITHER
async def test_queue_for_a_thousand_connections(start: Start, command: Sequence[str]) -> None:
    service = await start(command, RATE_LIMIT="off")
    processes = [service.process.pid, *service.workers()]

    async def is_large_enough() -> bool:
        """Connect while no process accepts; the kernel ignores what the queue cannot hold."""
        assert await served(service) == [200] * 10  # the queue is empty
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            async with asyncio.timeout(10), open_many(service, 1000):
                return True
        except TimeoutError:
            return False
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    await eventually(is_large_enough, seconds=40)
    assert await served(service) == [200] * 10

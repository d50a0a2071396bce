"""`make bench-idle`: the latency of a client while the service has many slow and idle connections.

2,000 connections are open and send nothing. 300 more send a valid request at one byte a second. The
measured client sends 500 requests, each over a new connection, without and with the others. The
figures are printed and not asserted: they depend on the machine.
"""

import asyncio
import resource
from asyncio import StreamWriter
from collections.abc import Sequence
from statistics import median, quantiles
from time import perf_counter

from loadtests import tokens
from loadtests.target import Target, serving
from rig.wire import connected, post, read_answer

REQUESTS, SLOW, IDLE = 500, 300, 2000


async def latencies(target: Target) -> list[float]:
    """Send all requests. Return the milliseconds of each.

    Raises RuntimeError for a response other than 200.
    """
    milliseconds = []
    for _ in range(REQUESTS):
        request = post(b"", token=tokens.good(target.secret)[1])
        began = perf_counter()
        async with connected(target) as (reader, writer):
            writer.write(request)
            if (await read_answer(reader)).status != 200:
                raise RuntimeError("a valid request was refused")
            milliseconds.append((perf_counter() - began) * 1000)
    return milliseconds


async def open_many(target: Target, count: int) -> list[StreamWriter]:
    """Open connections, 50 at a time."""
    opened: list[StreamWriter] = []
    while len(opened) < count:
        pairs = (asyncio.open_connection("127.0.0.1", target.port) for _ in range(50))
        opened += [writer for _, writer in await asyncio.gather(*pairs)]
    return opened


async def send_slowly(target: Target, writers: Sequence[StreamWriter]) -> None:
    """Send a request at one byte a second on each connection."""
    request = post(b"", token=tokens.good(target.secret)[1])
    for index in range(len(request)):
        for writer in writers:
            writer.write(request[index : index + 1])
        await asyncio.sleep(1)


def line(name: str, milliseconds: Sequence[float]) -> str:
    """Write a line of figures."""
    p99, most = quantiles(milliseconds, n=100)[98], max(milliseconds)
    return (
        f"{name:<28} median {median(milliseconds):6.2f} ms   p99 {p99:7.2f} ms   max {most:7.2f} ms"
    )


async def measure(target: Target) -> None:
    """Measure without and with the other connections. Print both."""
    await latencies(target)  # warm-up
    alone = await latencies(target)
    print(line("no other connections", alone))
    idle = await open_many(target, IDLE)
    slow = await open_many(target, SLOW)
    sender = asyncio.create_task(send_slowly(target, slow))
    loaded = await latencies(target)
    print(line(f"{SLOW} slow, {IDLE:,} idle", loaded))
    sender.cancel()
    for writer in [*idle, *slow]:
        writer.close()
    difference = quantiles(loaded, n=100)[98] - quantiles(alone, n=100)[98]
    print(f"{difference:+.2f} ms at p99 (the aim is less than +100 ms)")


async def main() -> int:
    """Measure one process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    async with serving(RATE_LIMIT="off") as target:
        await measure(target)
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))

"""`make bench-door`: how much longer a good client waits while others abuse the door.

300 connections send a good request at a byte a second; 2,000 more are open and silent. The good
client asks 500 times, each over a connection of its own, before and during. No test asserts the
figures: they are for people, and for this machine.
"""

import asyncio
import resource
from asyncio import StreamWriter
from collections.abc import Sequence
from statistics import median, quantiles
from time import perf_counter

from loadtests import tokens
from loadtests.target import Target, serving
from loadtests.wire import Client, start_request

ASKED, DRIPPING, IDLE = 500, 300, 2000


async def good_client(target: Target) -> list[float]:
    """Ask; give how long each answer took, in milliseconds. Raises RuntimeError for a refusal."""
    took = []
    for _ in range(ASKED):
        request = start_request(tokens.good(target.secret)[1])
        began = perf_counter()
        client = await Client.connect(target.port)
        if await client.ask(request) != 200:
            raise RuntimeError("a good client was refused")
        took.append((perf_counter() - began) * 1000)
        client.close()
    return took


async def open_many(target: Target, count: int) -> list[StreamWriter]:
    """Open so many connections."""
    opened: list[StreamWriter] = []
    while len(opened) < count:
        pairs = (asyncio.open_connection("127.0.0.1", target.port) for _ in range(50))
        opened += [writer for _, writer in await asyncio.gather(*pairs)]
    return opened


async def drip(target: Target, writers: Sequence[StreamWriter]) -> None:
    """Send a request at a byte a second on each connection."""
    request = start_request(tokens.good(target.secret)[1])
    for place in range(len(request)):
        for writer in writers:
            writer.write(request[place : place + 1])
        await asyncio.sleep(1)


def line(name: str, took: Sequence[float]) -> str:
    """Write figures down."""
    p99 = quantiles(took, n=100)[98]
    return (
        f"{name:<28} median {median(took):6.2f} ms   p99 {p99:7.2f} ms   most {max(took):7.2f} ms"
    )


async def run(target: Target) -> None:
    """Measure before and during, and print both."""
    await good_client(target)  # warm
    before = await good_client(target)
    print(line("nobody else", before))
    idle = await open_many(target, IDLE)
    dripping = await open_many(target, DRIPPING)
    dripper = asyncio.create_task(drip(target, dripping))
    during = await good_client(target)
    print(line(f"{DRIPPING} dripping, {IDLE:,} idle", during))
    dripper.cancel()
    for writer in [*idle, *dripping]:
        writer.close()
    more = quantiles(during, n=100)[98] - quantiles(before, n=100)[98]
    print(f"{more:+.2f} ms at p99; under 100 ms more is asked for")


def main() -> int:
    """Measure one process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with serving(RATE_LIMIT="off") as target:
        asyncio.run(run(target))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""`make bench-door`: how long a new client waits beside 1,000 clients that load without pause.

wrk keeps 1,000 connections busy: once with one request at a time on each, once with 16 pipelined.
Meanwhile a new client connects every 50 ms, whether those before it have been served or not, sends
one request and waits for its response. The time runs from `connect` to the response.
"""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks import servers, wrk
from benchmarks.keys import MATERIALS, make_token, write_tokens
from rig.wire import connected, post, read_answer

CLIENTS = 1000
PIPELINED = 16
SECONDS = 20
CONNECT_SECONDS = 3.0
"""The load needs as long to open its connections."""
PAUSE_SECONDS = 0.05


async def wait_of(server: servers.Server, request: bytes) -> float:
    """Return the milliseconds until a new client has its response.

    Raises RuntimeError for a response other than 200.
    """
    began = perf_counter()
    async with connected(server) as (reader, writer):
        writer.write(request)
        if (await read_answer(reader)).status != 200:
            raise RuntimeError("a valid request was refused")
        return (perf_counter() - began) * 1000


async def waits(
    server: servers.Server, request: bytes, load: Callable[[], Awaitable[float]]
) -> str:
    """Connect new clients while the load lasts. Return the cells of a row."""
    loading = asyncio.ensure_future(load())
    await asyncio.sleep(CONNECT_SECONDS)
    clients = []
    while not loading.done():
        clients.append(asyncio.create_task(wait_of(server, request)))
        await asyncio.sleep(PAUSE_SECONDS)
    milliseconds = await asyncio.gather(*clients)
    p99, most = quantiles(milliseconds, n=100)[98], max(milliseconds)
    figures = f"{median(milliseconds):.0f} ms | {p99:.0f} ms | {most:.0f} ms"
    return f"{await loading:,.0f}/s | {figures} | {len(milliseconds)}"


async def rows(folder: Path) -> Iterator[str]:
    """Measure without load, with requests one at a time, and pipelined."""
    material = MATERIALS["HS256"]()
    tokens = write_tokens(material, folder)["repeated"]
    request = post(b"{}", token=make_token(material, 1))
    made = []
    with servers.service(material) as server:

        async def none() -> float:
            await asyncio.sleep(SECONDS / 2)
            return 0

        async def load(pipelined: int) -> float:
            run = await asyncio.to_thread(
                wrk.post,
                server,
                tokens,
                connections=CLIENTS,
                seconds=SECONDS,
                pipelined=pipelined,
            )
            return run.per_second

        made.append(f"| none | {await waits(server, request, none)} |")
        for name, depth in (("one at a time", 1), (f"{PIPELINED} pipelined", PIPELINED)):
            cells = await waits(server, request, partial(load, depth))
            made.append(f"| {CLIENTS:,} clients, {name} | {cells} |")
    return iter(made)


async def main() -> None:
    """Print the table."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print("| load | its throughput | new client, median | p99 | longest | new clients |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with TemporaryDirectory() as folder:
        for row in await rows(Path(folder)):
            print(row)


if __name__ == "__main__":
    asyncio.run(main())

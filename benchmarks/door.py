"""`make bench-door`: how long a new client waits beside others.

A new client connects every 50 ms, whether those before it have been served or not, sends a request
with a known token and waits for its response. The time runs from `connect` to the response. The
others load the service without pause (wrk), send tokens with an invalid signature, or are idle.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from benchmarks import servers
from benchmarks.keys import MATERIALS, make_token, write_tokens
from rig.wire import exchange, post

CLIENTS = 1000
PIPELINED = 16
SLOW, IDLE = 300, 2000
SECONDS = 20
CONNECT_SECONDS = 3.0
"""The others need as long to open their connections."""
PAUSE_SECONDS = 0.05

Others = Callable[[], Awaitable[str]]
"""Loads the service for a while. Returns what it was answered."""


async def wait_of(server: servers.Server, request: bytes) -> float:
    """Return the milliseconds until a new client has its response.

    Raises RuntimeError for a response other than 200.
    """
    began = perf_counter()
    if (await exchange(server, request)).status != 200:
        raise RuntimeError("a valid request was refused")
    return (perf_counter() - began) * 1000


async def cells(server: servers.Server, request: bytes, others: Others) -> str:
    """Connect new clients while the others load the service. Return the cells of a row."""
    loading = asyncio.ensure_future(others())
    await asyncio.sleep(CONNECT_SECONDS)
    clients = []
    while not loading.done():
        clients.append(asyncio.create_task(wait_of(server, request)))
        await asyncio.sleep(PAUSE_SECONDS)
    waits = await asyncio.gather(*clients)
    figures = (median(waits), quantiles(waits, n=100)[98], max(waits))
    return " | ".join([await loading, *(f"{wait:.0f} ms" for wait in figures), f"{len(waits)}"])


async def nobody() -> str:
    """Wait."""
    await asyncio.sleep(SECONDS / 2)
    return ""


async def busy(server: servers.Server, tokens: Path, pipelined: int = 1) -> str:
    """Send requests without pause."""
    load = partial(server.load, tokens, connections=CLIENTS, seconds=SECONDS, pipelined=pipelined)
    return f"{(await asyncio.to_thread(load)).per_second:,.0f}/s"


async def idle_and_slow(server: servers.Server) -> str:
    """Open connections that send nothing, and others that send one byte a second."""
    writers: list[asyncio.StreamWriter] = []
    while len(writers) < SLOW + IDLE:
        opening = (asyncio.open_connection("127.0.0.1", server.port) for _ in range(50))
        writers += [writer for _, writer in await asyncio.gather(*opening)]
    request = post(b"{}")
    for index in range(SECONDS):
        for writer in writers[:SLOW]:
            writer.write(request[index : index + 1])
        await asyncio.sleep(1)
    for writer in writers:
        writer.close()
    return ""


async def main() -> None:
    """Print the table."""
    secret, keys = MATERIALS["HS256"](), MATERIALS["ES512"]()
    request = post(b"{}", token=make_token(secret, 1))
    variables: dict[str, Any] = {**secret.variables, **keys.variables}
    variables["JWT_ALGORITHMS"] = "HS256,ES512"
    with TemporaryDirectory() as folder, servers.service(keys, **variables) as server:
        known = write_tokens(secret, Path(folder))["repeated"]
        forged = write_tokens(keys, Path(folder))["forged"]
        rows: dict[str, Others] = {
            "nobody": nobody,
            f"{CLIENTS:,} without pause": partial(busy, server, known),
            f"{CLIENTS:,} without pause, {PIPELINED} pipelined": partial(
                busy, server, known, PIPELINED
            ),
            f"{CLIENTS:,} with forged ES512 tokens": partial(busy, server, forged),
            f"{IDLE:,} idle, {SLOW} that send a byte a second": partial(idle_and_slow, server),
        }
        print("| beside | answers to them | median | p99 | longest | new clients |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name, others in rows.items():
            print(f"| {name} | {await cells(server, request, others)} |", flush=True)


if __name__ == "__main__":
    servers.allow_many_connections()
    asyncio.run(main())

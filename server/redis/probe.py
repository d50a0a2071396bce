"""The probe of Redis: the same commands that requests send, on a connection of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from coredis.connection import BaseConnection

from server.redis.connection import Execute, execute

Probe = Callable[[Execute], Awaitable[None]]
"""Sends what a request sends. Raises `RedisFailure` when requests cannot be served with Redis."""

_WAITS: Final = 4
_WAIT_SECONDS: Final = 0.5


async def run_probes(connection: BaseConnection, probes: Sequence[Probe]) -> None:
    """Run the probes. Raises `RedisFailure`, at most 2 seconds later.

    The time is counted in several waits: a process that was busy or stopped sees a timer expire
    before it has read the answer, which costs a single wait.
    """
    answers = asyncio.create_task(_run(partial(execute, connection), probes))
    try:
        for _ in range(_WAITS):
            await asyncio.wait([answers], timeout=_WAIT_SECONDS)
            if answers.done():
                return answers.result()
        raise TimeoutError
    finally:
        answers.cancel()
        await asyncio.gather(answers, return_exceptions=True)


async def _run(send: Execute, probes: Sequence[Probe]) -> None:
    await asyncio.gather(*(probe(send) for probe in probes))

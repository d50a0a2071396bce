"""Waits for what happens in another process, in a thread or on a socket."""

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(check: Callable[[], Awaitable[bool]], *, seconds: float = 20) -> None:
    """Wait until a check succeeds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait until a condition is true. Raises TimeoutError."""

    async def check() -> bool:
        return condition()

    await eventually(check, seconds=seconds)

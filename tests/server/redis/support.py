"""What the tests of Redis share: a running client, and conditions to wait for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from server.redis.client import RedisClient, RedisState
from server.redis.probe import Execute
from tests.issuer import eventually


async def read(execute: Execute) -> None:
    """Probe with the command of a revocation lookup."""
    await execute(b"MGET", b"{vapi-sessions}:a", b"{vapi-sessions}:b")


@asynccontextmanager
async def running(url: str) -> AsyncIterator[RedisClient]:
    """Run a client in the background; at the end its task must have ended without an error."""
    client = RedisClient(url)
    client.probes.append(read)
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()


async def reaches(client: RedisClient, state: RedisState) -> None:
    """Wait until the client is in this state."""

    async def is_reached() -> bool:
        return client.state is state

    await eventually(is_reached)


async def get(client: RedisClient, key: str = "greeting", *, seconds: float = 5) -> Any:
    """Send GET."""
    return await client.execute(b"GET", key, seconds=seconds)

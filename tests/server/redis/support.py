"""What the tests of Redis share: a running client, and conditions to wait for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from rig.service import Service, claims, sign
from rig.waiting import eventually
from server.redis.client import RedisClient, RedisState
from server.redis.connection import Execute


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


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


async def code(service: Service, **more: object) -> str | None:
    """Request a session; return the code of the error, if any. `more` are claims."""
    return (await service.start(sign(claims(**more)))).code


async def reports(service: Service, state: str) -> None:
    """Wait until `/readyz` has this state of Redis."""

    async def is_reported() -> bool:
        ready = await service.ask("GET", "/readyz")
        return bool(ready.json["parts"]["redis"] == state)

    await eventually(is_reported)


async def metric(service: Service, name: str) -> float:
    """Return the value of a metric."""
    text = (await service.ask("GET", "/metrics")).body.decode()
    (line,) = (line for line in text.splitlines() if line.startswith(f"vapi_sessions_{name} "))
    return float(line.split()[1])

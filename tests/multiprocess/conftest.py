"""Fixtures for services in their own processes."""

from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from rig.process import Running, started
from rig.service import VARIABLES

Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a service: `service = await start(TWO_WORKERS, RATE_LIMIT="off")`."""
    async with AsyncExitStack() as stack:

        async def enter(command: Sequence[str], *, stdout: int = PIPE, **variables: str) -> Running:
            context = started(command, tmp_path, {**VARIABLES, **variables}, stdout=stdout)
            return await stack.enter_async_context(context)

        yield enter

"""Fixtures for services in processes of their own."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.multiprocess.support import Running, started

Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a service: `service = await start(TWO_WORKERS, RATE_LIMIT="off")`."""
    async with AsyncExitStack() as stack:

        async def enter(command: Sequence[str], **variables: str) -> Running:
            return await stack.enter_async_context(started(command, tmp_path, **variables))

        yield enter

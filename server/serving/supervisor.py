"""Supervises background tasks: a task that fails is logged and restarted."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

log = logging.getLogger(__name__)

Run = Callable[[], Awaitable[None]]

_RESTART_SECONDS: Final = 1.0


async def supervise(run: Run) -> None:
    """Run until `run` returns; log an unexpected error and restart after a second."""
    while True:
        try:
            return await run()
        except Exception:
            log.exception("a background task failed and will be restarted")
            await asyncio.sleep(_RESTART_SECONDS)

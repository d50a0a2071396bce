"""What runs beside the requests, for as long as the application does."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

log = logging.getLogger(__name__)

Run = Callable[[], Awaitable[None]]

_RESTART_SECONDS: Final = 1.0


async def keep(run: Run) -> None:
    """Run until it ends by itself; a fault that nobody foresaw is told, and it starts again."""
    while True:
        try:
            return await run()
        except Exception:
            log.exception("a background task failed; it starts again")
            await asyncio.sleep(_RESTART_SECONDS)

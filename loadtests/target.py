"""The service under load, as an operator runs it, and a stand-in for Vapi."""

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rig.process import ALONE, GUNICORN, Running, children, started
from rig.service import VARIABLES
from rig.vapi import vapi


@asynccontextmanager
async def serving(*, workers: int = 0, **variables: str) -> AsyncIterator[Running]:
    """Run the service with its default limits: one process, or `workers` under gunicorn."""
    command = (*GUNICORN, f"{workers}") if workers else ALONE
    with TemporaryDirectory(prefix="vapi-sessions-load-") as folder:
        async with vapi() as stand_in:
            watched = {"VAPI_BASE_URL": stand_in.url, "VAPI_CHECK_SECONDS": "30"}
            settings = {**VARIABLES, **watched, **variables}
            async with started(command, Path(folder), settings, stdout=DEVNULL) as running:
                while len(children(running.pid)) < workers:  # noqa: ASYNC110  other processes
                    await asyncio.sleep(0.05)
                yield running

"""The service under load, as an operator runs it, and a stand-in for Vapi."""

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rig.process import ALONE, GUNICORN, children, cpu_seconds, rss_megabytes, started
from rig.service import SECRET, VARIABLES
from rig.vapi import vapi


@dataclass(frozen=True, slots=True)
class Target:
    """A running service: its port and its process."""

    port: int
    pid: int
    secret: str = SECRET

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.port}"

    def pids(self) -> list[int]:
        """Return the ids of the serving processes: the workers, or the only process."""
        return children(self.pid) or [self.pid]

    def rss_megabytes(self) -> float:
        """Return the resident memory of all serving processes."""
        return sum(map(rss_megabytes, self.pids()))

    def cpu_seconds(self) -> list[float]:
        """Return the processor time used by each serving process so far."""
        return list(map(cpu_seconds, self.pids()))


@asynccontextmanager
async def serving(*, workers: int = 0, **variables: str) -> AsyncIterator[Target]:
    """Run the service with its default limits: one process, or `workers` under gunicorn."""
    command = (*GUNICORN, f"{workers}") if workers else ALONE
    with TemporaryDirectory(prefix="vapi-sessions-load-") as folder:
        async with vapi() as stand_in:
            watched = {"VAPI_BASE_URL": stand_in.url, "VAPI_CHECK_SECONDS": "30"}
            settings = {**VARIABLES, **watched, **variables}
            async with started(command, Path(folder), settings, stdout=DEVNULL) as running:
                while len(children(running.pid)) < workers:  # noqa: ASYNC110  other processes
                    await asyncio.sleep(0.05)
                yield Target(running.port, running.pid)


async def run(*command: str) -> tuple[int, str]:
    """Run a load generator that prints. Return its exit status and its output."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()

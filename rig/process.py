"""The service as a separate process."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import server
from server.config.settings import VARIABLES

_ROOT = Path(server.__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of a process."""

    status: int
    out: str
    err: str


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with exactly these variables of the service."""
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**inherited, "PYTHONPATH": str(_ROOT), **variables}


async def launch(folder: Path, variables: Mapping[str, str], *arguments: str) -> Process:
    """Start `python -m server` in a folder."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", *arguments),
        cwd=folder,
        env=environment(variables),
        stdout=PIPE,
        stderr=PIPE,
    )


async def run(folder: Path, variables: Mapping[str, str], *arguments: str) -> Ended:
    """Run a command and wait for it."""
    process = await launch(folder, variables, *arguments)
    out, err = await process.communicate()
    return Ended(process.returncode or 0, out.decode(), err.decode())


@dataclass(slots=True)
class Served:
    """A serving process: its address and, after termination, its result."""

    url: str
    process: Process
    started: str
    ended: Ended | None = None

    async def terminate(self, number: int = signal.SIGTERM) -> Ended:
        """Terminate it and wait."""
        if self.ended is None:
            self.process.send_signal(number)
            out, err = await self.process.communicate()
            status = self.process.returncode or 0
            self.ended = Ended(status, out.decode(), self.started + err.decode())
        return self.ended


@asynccontextmanager
async def serving(
    folder: Path, variables: Mapping[str, str], *arguments: str
) -> AsyncIterator[Served]:
    """Serve; read the port from the log, which must be JSON at level INFO or below."""
    process = await launch(folder, variables, *arguments)
    assert process.stderr is not None
    started = ""
    try:
        while line := (await process.stderr.readline()).decode():
            started += line
            if message := _message(line):
                port = message.rpartition(" port ")[2]
                break
        else:
            raise AssertionError(f"the process does not serve:\n{started}")
        served = Served(f"http://127.0.0.1:{port}", process, started)
        yield served
        await served.terminate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def _message(line: str) -> str:
    record: Any = json.loads(line) if line.startswith("{") else {}
    message = str(record.get("message", ""))
    return message if message.startswith("serving on ") else ""

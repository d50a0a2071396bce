"""The service as processes, as an operator starts it."""

import asyncio
import os
import re
import signal
import sys
from asyncio import StreamReader
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rig.forked import Fork, fork
from server.config.settings import IN_EITHER_CASE, VARIABLES

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"

ALONE = (sys.executable, "-m", "server")
GUNICORN = (
    # The script: a second master that `python -m gunicorn` starts does not find its modules.
    *(sys.executable, str(Path(sys.executable).with_name("gunicorn")), "server.app:app_factory"),
    *("-k", "aiohttp.GunicornUVLoopWebWorker", "-w"),
)
ONE_WORKER, TWO_WORKERS = (*GUNICORN, "1"), (*GUNICORN, "2")

_PORT = r"(?:serving on \S+ port |Listening at: http://(?:127\.0\.0\.1|\[::\]):)(\d+)"
_HERTZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of a process."""

    status: int
    out: str
    err: str


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with exactly these variables of the service."""
    ours = VARIABLES | IN_EITHER_CASE.keys()
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    paths = os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH")]))
    return {**inherited, "PYTHONPATH": paths, **variables}


async def launch(
    folder: Path, variables: Mapping[str, str], *command: str, stdout: int = PIPE
) -> Process | Fork:
    """Start a command in a folder."""
    env = environment(variables)
    if _may_fork(variables) and (command[:3] == ALONE or command[:2] == GUNICORN[:2]):
        return await fork(folder, env, command, stdout)
    return await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=env, stdout=stdout, stderr=PIPE
    )


def _may_fork(variables: Mapping[str, str]) -> bool:
    """Tests fork, except for coverage; what is measured starts as an operator starts it."""
    tested = "PYTEST_VERSION" in os.environ and "COVERAGE_PROCESS_CONFIG" not in os.environ
    return tested and not any(name.startswith("PYTHON") for name in variables)


async def run(folder: Path, variables: Mapping[str, str], *arguments: str) -> Ended:
    """Run `python -m server` with arguments and wait for it."""
    process = await launch(folder, variables, *ALONE, *arguments)
    out, err = await process.communicate()
    return Ended(process.returncode or 0, out.decode(), err.decode())


@dataclass
class Stream:
    """The lines that a process has written."""

    lines: list[str] = field(default_factory=list)
    ended: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def collect(self, reader: StreamReader) -> None:
        """Read until the end."""
        while line := await reader.readline():
            async with self.changed:
                self.lines.append(line.decode().rstrip("\n"))
                self.changed.notify_all()
        async with self.changed:
            self.ended = True
            self.changed.notify_all()

    async def find(self, pattern: str) -> re.Match[str]:
        """Wait for a line that contains the pattern. Raises AssertionError at the end."""
        seen = 0
        async with self.changed:
            while True:
                for line in self.lines[seen:]:
                    if found := re.search(pattern, line):
                        return found
                seen = len(self.lines)
                assert not self.ended, f"no {pattern!r} in:\n" + "\n".join(self.lines)
                await self.changed.wait()

    async def whole(self) -> str:
        """Wait for the end; return everything."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.ended)
        return "\n".join(self.lines)

    def matching(self, pattern: str) -> list[str]:
        """Return the lines that contain the pattern."""
        return [line for line in self.lines if re.search(pattern, line)]


@dataclass
class Running:
    """A started service; its standard output is the audit log."""

    process: Process | Fork
    log: Stream
    audit: Stream
    port: int = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id; under gunicorn, the master's."""
        return self.process.pid

    def workers(self) -> list[int]:
        """Return the process ids of all workers that were started."""
        started = (re.search(r"Booting worker with pid: (\d+)", line) for line in self.log.lines)
        return [int(found[1]) for found in started if found]

    async def left(self) -> int:
        """Wait for the process and its output to end; return its exit status."""
        status = await self.process.wait()
        await self.log.whole()
        await self.audit.whole()
        return status

    async def terminate(self, number: int = signal.SIGTERM) -> Ended:
        """Send a signal, unless it has ended, and wait for the end."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        return Ended(await self.left(), await self.audit.whole(), await self.log.whole())


@asynccontextmanager
async def started(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], *, stdout: int = PIPE
) -> AsyncIterator[Running]:
    """Start the service in a folder with gunicorn's configuration; wait until it listens."""
    configuration = folder / "gunicorn.conf.py"
    if not configuration.exists():
        configuration.symlink_to(ROOT / "gunicorn.conf.py")
    process = await launch(folder, variables, *command, stdout=stdout)
    running = Running(process, Stream(), Stream(ended=process.stdout is None))
    async with asyncio.TaskGroup() as readers:
        for stream, reader in ((running.log, process.stderr), (running.audit, process.stdout)):
            if reader is not None:
                readers.create_task(stream.collect(reader))
        try:
            running.port = int((await running.log.find(_PORT))[1])
            yield running
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def children(pid: int) -> list[int]:
    """Return the ids of the child processes: the workers of a master."""
    with suppress(OSError):
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def rss_megabytes(pid: int) -> float:
    """Return the resident memory of a process, in MiB; 0 when it has ended."""
    with suppress(OSError):
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _HERTZ

"""The service in processes of its own, as an operator starts it, and clients of it."""

import asyncio
import json
import os
import re
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rig.service import PATH, VARIABLES, claims, sign
from server.config import Settings

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"

ALONE = (sys.executable, "-m", "server")
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "server.app:app_factory"),
    *("-k", "aiohttp.GunicornUVLoopWebWorker", "-w"),
)
TWO_WORKERS = (*GUNICORN, "2")
EITHER = pytest.mark.parametrize("command", [ALONE, TWO_WORKERS], ids=["alone", "gunicorn"])

_ANSWER_SECONDS = 20

_PORT = r"(?:serving on \S+ port |Listening at: http://(?:127\.0\.0\.1|\[::\]):)(\d+)"


@dataclass
class Stream:
    """The lines that a process has written."""

    lines: list[str] = field(default_factory=list)
    ended: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def collect(self, reader: StreamReader) -> None:
        while line := await reader.readline():
            async with self.changed:
                self.lines.append(line.decode().rstrip("\n"))
                self.changed.notify_all()
        async with self.changed:
            self.ended = True
            self.changed.notify_all()

    async def find(self, pattern: str) -> re.Match[str]:
        """Wait for a line that contains the pattern."""
        seen = 0
        async with self.changed:
            while True:
                for line in self.lines[seen:]:
                    if found := re.search(pattern, line):
                        return found
                seen = len(self.lines)
                assert not self.ended, f"no {pattern!r} in:\n" + "\n".join(self.lines)
                await self.changed.wait()

    async def whole(self) -> None:
        """Wait for the end of the stream."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.ended)

    def matching(self, pattern: str) -> list[str]:
        return [line for line in self.lines if re.search(pattern, line)]


@dataclass
class Running:
    """A started service."""

    process: Process
    log: Stream
    audit: Stream
    port: int = 0

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


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a process, without the developer's own configuration."""
    ours = {name.upper() for name in Settings.__dataclass_fields__}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    paths = os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH")]))
    return {**inherited, "PYTHONPATH": paths, **VARIABLES, **variables}


@asynccontextmanager
async def started(
    command: Sequence[str], folder: Path, stdout: int = PIPE, /, **variables: str
) -> AsyncIterator[Running]:
    """Start the service in a folder with gunicorn's configuration."""
    configuration = folder / "gunicorn.conf.py"
    if not configuration.exists():
        configuration.symlink_to(ROOT / "gunicorn.conf.py")
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment(**variables), stdout=stdout, stderr=PIPE
    )
    assert process.stderr is not None
    running = Running(process, Stream(), Stream())
    async with asyncio.TaskGroup() as readers:
        readers.create_task(running.log.collect(process.stderr))
        if process.stdout is None:
            running.audit.ended = True
        else:
            readers.create_task(running.audit.collect(process.stdout))
        try:
            running.port = int((await running.log.find(_PORT))[1])
            yield running
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def http(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """Return a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", *headers]
    if body or method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def start_request(patient: str = "pt_1", *headers: str, body: bytes = b"{}") -> bytes:
    """Return a valid request for a session."""
    token = sign(claims(id=patient))
    return http("POST", PATH, f"Authorization: Bearer {token}", *headers, body=body)


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete response."""

    status: int
    closes: bool
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def read_reply(reader: StreamReader) -> Reply:
    """Read a response. Raises EOFError or OSError when the connection ends before."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = re.search(r"content-length: (\d+)", head)
    assert length is not None
    body = await reader.readexactly(int(length[1]))
    return Reply(int(head.split()[1]), "connection: close" in head, body)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """Open a connection. Raises OSError when the port is closed."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def ask(port: int, request: bytes) -> Reply:
    """Send a request over a new connection; return the response."""
    async with connected(port) as (reader, writer):
        writer.write(request)
        return await read_reply(reader)


@dataclass
class Load:
    """Clients that send requests until connections are refused; every request is accounted for.

    `lost` are the requests whose connection ended, or stayed open for `_ANSWER_SECONDS`, without a
    response. Sparse clients send rarely over connections that they keep; as real ones do, they
    connect again when the connection was closed before they send.
    """

    port: int
    enough: int
    statuses: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    under_way: asyncio.Event = field(default_factory=asyncio.Event)

    async def client(self, number: int, *, keep_alive: bool, pause: float = 0) -> None:
        request = start_request(f"pt_{number}")
        with suppress(ConnectionRefusedError):
            while True:
                async with connected(self.port) as (reader, writer):
                    while await self._answered(reader, writer, request) and keep_alive:  # noqa: ASYNC110  the pace of a client
                        await asyncio.sleep(pause)

    async def _answered(self, reader: StreamReader, writer: StreamWriter, request: bytes) -> bool:
        """Send a request; return whether the connection stays open."""
        for _ in range(2):
            await asyncio.sleep(0)  # the event loop reads what has arrived, for example the end
        if reader.at_eof():
            return False
        try:
            writer.write(request)
            async with asyncio.timeout(_ANSWER_SECONDS):
                reply = await read_reply(reader)
        except (OSError, EOFError) as error:
            self.lost.append(type(error).__name__)
            return False
        self.statuses.append(reply.status)
        if len(self.statuses) >= self.enough:
            self.under_way.set()
        return not reply.closes

    @asynccontextmanager
    async def running(self, clients: int, sparse: int = 0) -> AsyncIterator[None]:
        """Run the clients; the body of the context runs once `enough` requests are answered."""
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self.client(number, keep_alive=number % 2 == 0))
            for number in range(sparse):
                group.create_task(self.client(number, keep_alive=True, pause=0.02 * (number + 1)))
            await self.under_way.wait()
            yield

"""The service in processes of its own, as an operator starts it, and clients that put it to use."""

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

from server.config import Settings
from tests.support import PATH, VARIABLES, claims, sign

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"

ALONE = (sys.executable, "-m", "server")
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "server.app:app_factory"),
    *("-k", "aiohttp.GunicornUVLoopWebWorker", "-w"),
)
TWO_WORKERS = (*GUNICORN, "2")

_PORT = r"(?:serving on \S+ port |Listening at: http://127\.0\.0\.1:)(\d+)"


@dataclass
class Stream:
    """The lines that a process wrote so far, and a way to wait for one."""

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
        """Wait for a line in which the pattern is found."""
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
        """Wait for the end."""
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

    async def left(self) -> int:
        """Wait for the process and its output to end; give its exit status."""
        status = await self.process.wait()
        await self.log.whole()
        await self.audit.whole()
        return status


def environment(**variables: str) -> dict[str, str]:
    """Give the environment of a process: nothing of the developer's own configuration."""
    ours = {name.upper() for name in Settings.__dataclass_fields__}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    paths = os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH")]))
    return {**inherited, "PYTHONPATH": paths, **VARIABLES, **variables}


@asynccontextmanager
async def started(command: Sequence[str], folder: Path, **variables: str) -> AsyncIterator[Running]:
    """Start the service in a folder that holds gunicorn's configuration and nothing else."""
    configuration = folder / "gunicorn.conf.py"
    if not configuration.exists():
        configuration.symlink_to(ROOT / "gunicorn.conf.py")
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment(**variables), stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    running = Running(process, Stream(), Stream())
    async with asyncio.TaskGroup() as readers:
        readers.create_task(running.log.collect(process.stderr))
        readers.create_task(running.audit.collect(process.stdout))
        try:
            running.port = int((await running.log.find(_PORT))[1])
            yield running
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def http(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """Write a request out."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", *headers]
    if body or method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def start_request(patient: str = "pt_1", *headers: str, body: bytes = b"{}") -> bytes:
    """Write out a good request for a session."""
    token = sign(claims(id=patient))
    return http("POST", PATH, f"Authorization: Bearer {token}", *headers, body=body)


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer."""

    status: int
    closes: bool
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def read_reply(reader: StreamReader) -> Reply:
    """Read an answer. Raises EOFError or OSError when the connection ends before it does."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = re.search(r"content-length: (\d+)", head)
    assert length is not None
    body = await reader.readexactly(int(length[1]))
    return Reply(int(head.split()[1]), "connection: close" in head, body)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """Hold a connection. Raises OSError when nobody listens."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def ask(port: int, request: bytes) -> Reply:
    """Ask once, over a connection of its own."""
    async with connected(port) as (reader, writer):
        writer.write(request)
        return await read_reply(reader)


@dataclass
class Load:
    """Clients that keep asking until nobody lets them in; every request sent is accounted for."""

    port: int
    enough: int
    statuses: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    under_way: asyncio.Event = field(default_factory=asyncio.Event)

    async def client(self, number: int, *, keep_alive: bool) -> None:
        request = start_request(f"pt_{number}")
        with suppress(ConnectionRefusedError):
            while True:
                async with connected(self.port) as (reader, writer):
                    await self._converse(reader, writer, request, keep_alive=keep_alive)

    async def _converse(
        self, reader: StreamReader, writer: StreamWriter, request: bytes, *, keep_alive: bool
    ) -> None:
        reply = None
        while reply is None or (keep_alive and not reply.closes):
            try:
                writer.write(request)
                reply = await read_reply(reader)
            except (OSError, EOFError) as error:
                self.lost.append(type(error).__name__)
                return
            self.statuses.append(reply.status)
            if len(self.statuses) >= self.enough:
                self.under_way.set()

    @asynccontextmanager
    async def running(self, clients: int) -> AsyncIterator[None]:
        """Have the clients ask while the body runs, which begins once enough was answered."""
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self.client(number, keep_alive=number % 2 == 0))
            await self.under_way.wait()
            yield

"""A real redis-server on a free port of loopback that can be stopped, suspended and restarted."""

import asyncio
import signal
import socket
import subprocess
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from typing import Self

from rig.waiting import eventually


class RedisServer:
    """One redis-server with an empty data set; `options` are those of its command line."""

    def __init__(self, folder: Path, program: str = "redis-server", **options: str) -> None:
        self.port = 0
        self._program = program
        self._password = ""
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, for `REDIS_URL`."""
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> Self:
        """Serve on a free port, and after a stop on the same port again."""
        self.port = self.port or free_port()
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "dir": self._folder}
        pairs = {**options, **self._options}.items()
        arguments = [text for name, value in pairs for text in (f"--{name}", str(value))]
        self._process = subprocess.Popen(  # noqa: ASYNC220  it returns at once
            [self._program, *arguments], stdout=subprocess.DEVNULL
        )
        await eventually(self._answers)
        return self

    async def _answers(self) -> bool:
        try:
            return await self.execute("PING") == "PONG"
        except (OSError, RuntimeError):
            return False

    async def execute(self, *command: str | bytes, database: int = 0) -> str:
        """Run a command; return its answer as redis-cli prints it. Raises RuntimeError."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            if self._password:
                await _exchange(reader, writer, "AUTH", self._password)
            if database:
                await _exchange(reader, writer, "SELECT", str(database))
            return (await _exchange(reader, writer, *command)).rstrip("\n")
        finally:
            writer.close()

    async def set_password(self, password: str) -> None:
        """Require a password of new connections; an empty one requires none."""
        await self.execute("CONFIG", "SET", "requirepass", password)
        self._password = password

    async def drop_connections(self) -> None:
        """Close every connection of a client."""
        await self.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def suspend(self) -> None:
        """Stop answering; the kernel still accepts connections."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        self._signal(signal.SIGCONT)

    async def stop(self) -> None:
        """Kill the process; its data set is lost."""
        if self._process is not None:
            self.resume()
            self._process.kill()
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


async def _exchange(reader: StreamReader, writer: StreamWriter, *words: str | bytes) -> str:
    raw = [word if isinstance(word, bytes) else word.encode() for word in words]
    parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in raw]
    writer.write(b"*%d\r\n%b" % (len(raw), b"".join(parts)))
    return await _answer(reader)


async def _answer(reader: StreamReader) -> str:
    line = (await reader.readline()).rstrip()
    kind, rest = line[:1], line[1:].decode()
    if kind in {b"-", b""}:
        raise RuntimeError(rest or "the connection was closed")
    if kind == b"$" and rest != "-1":
        return (await reader.readexactly(int(rest) + 2))[:-2].decode()
    if kind == b"*":
        return "\n".join([await _answer(reader) for _ in range(int(rest))])
    return "" if rest == "-1" and kind == b"$" else rest


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

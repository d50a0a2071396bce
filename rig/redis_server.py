"""A real redis-server on a free port of loopback that can be stopped, suspended and restarted."""

import asyncio
import os
import signal
import socket
import subprocess
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Self

from rig.issuer import eventually


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
        except RuntimeError:
            return False

    async def execute(self, *command: str | bytes) -> str:
        """Run a command with redis-cli; return its output. Raises RuntimeError for an error."""
        process = await asyncio.create_subprocess_exec(
            *("redis-cli", "-e", "-p", str(self.port), *command),
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, **({"REDISCLI_AUTH": self._password} if self._password else {})},
        )
        output, errors = await process.communicate()
        if process.returncode:
            raise RuntimeError((errors or output).decode())
        return output.decode().rstrip("\n")

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


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

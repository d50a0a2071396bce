"""A real redis-server on a free port of loopback, that can be stopped, started and made to hang."""

import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

from redis.asyncio import Redis

from tests.issuer import eventually


class RedisServer:
    """One redis-server, with nothing in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.client = Redis(port=0)

    @property
    def url(self) -> str:
        """Its address, for `REDIS_URL`."""
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> Self:
        """Serve: on a free port, and after a stop on the same again."""
        self.port = self.port or _free_port()
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "dir": self._folder}
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        self._process = subprocess.Popen(  # noqa: ASYNC220  it returns at once
            ["redis-server", *arguments], stdout=subprocess.DEVNULL
        )
        self.client = Redis(port=self.port)
        await eventually(self._answers)
        return self

    async def _answers(self) -> bool:
        try:
            return bool(await self.client.ping())
        except OSError:
            return False

    def pause(self) -> None:
        """Let the kernel accept connections, and nobody answer them."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        self._signal(signal.SIGCONT)

    async def stop(self) -> None:
        """End it, and forget what it held."""
        await self.client.aclose()
        if self._process is not None:
            self.resume()
            self._process.kill()
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""A TCP proxy between a service and an upstream that delays, stalls or refuses.

`python -m rig.tcp_proxy PORT TARGET SECONDS` forwards with a delay, in a process of its own.
"""

import asyncio
import sys
from collections import deque
from typing import Any

import uvloop


class TcpProxy:
    """Forwards to a port of loopback, each chunk `delay` seconds later in either direction.

    While `is_stalled`, it accepts connections and drops what it receives. A chunk of a client that
    contains a key of `wrong_answers` is not forwarded; the client gets the value. What arrives from
    one of the `clients` (in their order) while it `is_silent` is dropped.
    """

    def __init__(self, target: int, *, delay: float = 0) -> None:
        self.port = 0
        self.target = target
        self.delay = delay
        self.is_stalled = False
        self.wrong_answers: dict[bytes, bytes] = {}
        self.ends: set[_End] = set()
        self.clients: list[_Client] = []
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Its address, for `REDIS_URL`."""
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen on a free port, and after a stop on the same port again."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, and close the open ones."""
        if self._server is not None:
            self._server.close()
        for end in list(self.ends):
            end.transport.abort()


class _End(asyncio.Protocol):
    """One of the two connections of a pair."""

    def __init__(self, proxy: TcpProxy, peer: "_End | None" = None) -> None:
        self.proxy = proxy
        self.peer = peer
        self.early: list[bytes] = []
        self.delayed: deque[bytes] = deque()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.proxy.ends.add(self)
        if self.peer is not None:
            self.peer.peer = self
            for data in self.peer.early:
                transport.write(data)

    def data_received(self, data: bytes) -> None:
        if not self.proxy.is_stalled:
            self.delayed.append(data)
            asyncio.get_running_loop().call_later(self.proxy.delay, self._forward)

    def _forward(self) -> None:
        data = self.delayed.popleft()  # in their order, also when the delay becomes shorter
        if self.peer is None:
            self.early.append(data)
        elif not self.peer.transport.is_closing():
            self.peer.transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.proxy.ends.discard(self)
        if self.peer is not None:
            self.peer.transport.close()


class _Client(_End):
    """The connection of a client, which opens the one to the target."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.proxy.clients.append(self)
        self.is_silent = False
        self.opening = asyncio.ensure_future(self._open())

    def data_received(self, data: bytes) -> None:
        if self.is_silent:
            return
        for part, answer in self.proxy.wrong_answers.items():
            if part in data:
                self.transport.write(answer)
                return
        super().data_received(data)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: _End(self.proxy, self), "127.0.0.1", self.proxy.target
            )
        except OSError:
            self.transport.abort()


async def _forward(port: int, target: int, delay: float) -> None:
    proxy = TcpProxy(target, delay=delay)
    proxy.port = port
    await proxy.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_forward(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))

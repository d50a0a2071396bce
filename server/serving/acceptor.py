"""Accepts all connections that wait, where libuv accepts one in each turn of the event loop."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Final

from server.serving.limits import KERNEL_RECEIVE_BYTES

_MOST_AT_ONCE: Final = 64
"""More would delay the requests of connections that are open already."""


class Acceptor:
    """Accepts from duplicates of listening sockets, in addition to the event loop's own server.

    With N busy connections a turn of the loop takes N requests, so a new connection behind 1,000
    others would wait for thousands of turns. `factory` makes the protocol of a connection.
    """

    __slots__ = ("_factory", "_listeners", "_tasks")

    def __init__(
        self, factory: Callable[[], asyncio.BaseProtocol], listeners: Iterable[socket.socket]
    ) -> None:
        self._factory = factory
        self._listeners = [listener.dup() for listener in listeners]
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self) -> None:
        """Accept from now on."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            listener.setblocking(False)
            # Connections inherit it. Lowered later, a client would wait for half of the first
            # window, which never opens again, and send what fits once in 200 ms.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_RECEIVE_BYTES)
            loop.add_reader(listener.fileno(), self._accept, listener)

    async def stop(self) -> None:
        """Accept no more, and wait until the accepted connections have been made."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners = []
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_MOST_AT_ONCE):
            try:
                client, _address = listener.accept()
            except OSError:  # nothing waits, or no file can be opened: the loop's server tells
                return
            client.setblocking(False)
            task = loop.create_task(loop.connect_accepted_socket(self._factory, client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

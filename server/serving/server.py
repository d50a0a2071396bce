"""The server: accepts clients, creates a connection for each, and returns memory afterwards."""

import asyncio
import ctypes
import resource
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, cast

from aiohttp import web

from server.serving.connection import Connection, ErrorResponse, Shared
from server.serving.connection_limits import (
    KERNEL_RECEIVE_BYTES,
    READ_BYTES,
    Connections,
)
from server.serving.transport import BoundedReads

_MANY_CONNECTIONS: Final = 16
_RETURN_MEMORY_SECONDS: Final = 1.0
_MOST_AT_ONCE: Final = 64
"""More would delay the requests of connections that are open already."""
_WANTED_FILES: Final = 65536
_OTHER_FILES: Final = 64
"""What the process needs besides the connections of clients: sockets, logs, upstreams."""

_malloc_trim: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What an application and its server tell each other: the value of `app[INTERFACE]`.

    From the application: `error_response` answers what never reaches it; each request gets the
    time at which its head was parsed under the key `started_at`, in seconds of
    `time.perf_counter`; `expire_requests` ends every request in flight with a response.

    From the server: `shutting_down` is set when the process has been told to end, and new
    connections may still be served for a while; `draining` when each response closes its
    connection; `connections` counts.
    """

    error_response: ErrorResponse
    started_at: web.RequestKey[float]
    expire_requests: Callable[[], None]
    shutting_down: asyncio.Event = field(default_factory=asyncio.Event)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    connections: Connections = field(default_factory=Connections)


INTERFACE: Final = web.AppKey("INTERFACE", Interface)


class ConnectionServer(web.Server):
    """Creates connections with limits, from the server that aiohttp created for the application.

    A connection may be idle for `keepalive_seconds`.
    """

    def __init__(self, made: web.Server, interface: Interface, keepalive_seconds: float) -> None:
        super().__init__(made.request_handler, request_factory=made.request_factory)
        self._shared = Shared(
            handle=made.request_handler,
            make_request=made.request_factory,
            error_response=interface.error_response,
            started_at=interface.started_at,
            draining=interface.draining,
            connections=interface.connections,
            keepalive_seconds=keepalive_seconds,
        )
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._peak = _MANY_CONNECTIONS

    def __call__(self) -> asyncio.BaseProtocol:  # type: ignore[override]  # asyncio needs no more
        """Create the protocol of a new connection."""
        shared = self._shared
        return BoundedReads(
            self._connect, shared.connections, self._buffer, shared.turns, self._on_lost
        )

    def _connect(self, channel: BoundedReads) -> Connection:
        self._peak = max(self._peak, self._shared.connections.open)
        return Connection(self._shared, channel)

    def _on_lost(self) -> None:
        """Return memory when half of the connections have ended."""
        left = self._shared.connections.open
        if left <= self._peak // 2 >= _MANY_CONNECTIONS:
            self._peak = max(left, _MANY_CONNECTIONS)
            asyncio.get_running_loop().call_later(_RETURN_MEMORY_SECONDS, return_free_memory)

    def pre_shutdown(self) -> None:
        """Close idle connections."""
        for connection in self._shared.open:
            connection.close()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  aiohttp's
        """Wait this long for the requests in flight, and again after cancelling them."""
        for _ in range(2):
            if tasks := [each.task for each in self._shared.open if each.task is not None]:
                _, pending = await asyncio.wait(tasks, timeout=timeout)
                for task in pending:
                    task.cancel()
        for connection in self._shared.open:
            cast("asyncio.Transport", connection.transport).close()


def receives_compressed_bodies(request: web.Request) -> bool:
    """Return whether bodies arrive as sent; aiohttp's own server decompresses them."""
    return isinstance(request.protocol, Connection)


class Acceptor:
    """Accepts all that wait from duplicates of listening sockets, beside the loop's own server.

    libuv accepts one connection in a turn of the loop. With N busy connections a turn takes N
    requests, so a new one behind 1,000 others would wait for thousands of turns. `factory` makes
    the protocol of a connection.
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


def return_free_memory() -> None:
    """Return to the operating system what the process has freed; about 0.1 ms for each MiB.

    By itself glibc returns only the end of its heap, so a single block that is still in use keeps
    the memory of thousands of closed connections. With another C library this does nothing.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)


def raise_open_file_limit() -> None:
    """Raise the soft limit of open files to 65,536 or the hard limit; never lower it.

    The usual 1,024 are soon used up by idle connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _WANTED_FILES:
        return
    most = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def connections_within_limit(maximum: int) -> int:
    """Return how many of `maximum` connections the limit of open files allows, at least one.

    Beyond the limit libuv silently closes each new connection, and no upstream connection can be
    opened.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return maximum
    return min(maximum, soft - min(_OTHER_FILES, soft // 2))

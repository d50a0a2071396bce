"""Creates a connection for each client."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from middlewares.context import STARTED_AT
from server.serving.bounded_reads import BoundedReads
from server.serving.collected_writes import WriteCollector
from server.serving.connection import Connection
from server.serving.connection_limit import ConnectionLimit, RefusedConnection
from server.serving.limits import READ_BYTES
from server.serving.memory import return_free_memory

_MANY_CONNECTIONS: Final = 16
_RETURN_MEMORY_SECONDS: Final = 1.0


class ConnectionServer(web.Server):
    """Creates connections with limits, from the server that aiohttp created for the application.

    `draining` is set when graceful shutdown begins. A connection may be idle for
    `keepalive_seconds`.
    """

    def __init__(
        self,
        made: web.Server,
        draining: asyncio.Event,
        limit: ConnectionLimit,
        keepalive_seconds: float,
    ) -> None:
        super().__init__(
            made.request_handler,
            request_factory=_noting_start(made.request_factory),
            handler_cancellation=True,  # the work for a client that has left is cancelled
        )
        self._draining = draining
        self._keepalive_seconds = keepalive_seconds
        self._limit = limit
        self._collector = WriteCollector()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._peak = _MANY_CONNECTIONS

    def __call__(self) -> asyncio.BaseProtocol:  # type: ignore[override]  # asyncio needs no more
        """Create the protocol of a new connection."""
        if not self._limit.acquire():
            return RefusedConnection()
        self._peak = max(self._peak, self._limit.open)
        connection = Connection(self, self._draining, self._keepalive_seconds)
        return BoundedReads(connection, self._buffer, self._collector, self._on_lost)

    def _on_lost(self) -> None:
        """Count the end of a connection; return memory when half of them have ended."""
        self._limit.release()
        if self._limit.open <= self._peak // 2 >= _MANY_CONNECTIONS:
            self._peak = max(self._limit.open, _MANY_CONNECTIONS)
            asyncio.get_running_loop().call_later(_RETURN_MEMORY_SECONDS, return_free_memory)


def _noting_start(make: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
    """Return `make` with a request that knows when its head was parsed."""

    def make_request(
        message: Any, payload: Any, protocol: Connection, writer: Any, task: Any
    ) -> web.BaseRequest:
        request = make(message, payload, protocol, writer, task)
        request[STARTED_AT] = protocol.parsed_at
        return request

    return make_request


def receives_compressed_bodies(request: web.Request) -> bool:
    """Return whether bodies arrive as sent; inside a host application aiohttp decompresses them."""
    return isinstance(request.protocol, Connection)

"""Runs the application and shuts it down gracefully: no request is lost."""

import asyncio
import socket
from collections.abc import Iterable
from time import monotonic
from typing import Final, cast

from aiohttp import web

from server.serving.acceptor import Acceptor
from server.serving.connection_server import ConnectionServer
from server.serving.end_of_service import EndOfService
from server.serving.open_files import connections_within_limit
from server.serving.socket_drain import DRAIN_SHARE, stop_accepting
from server.serving.state import CONNECTIONS, DRAINING, SHUTTING_DOWN, TIMEOUTS

DEFAULT_KEEPALIVE_SECONDS: Final = 3630.0

_POLL_SECONDS: Final = 0.02
_QUEUE_SHARE: Final = 0.05
_IDLE_SHARE: Final = 0.15
_BUSY_SHARE: Final = 0.4
_LAST_SHARE: Final = 0.05


class Runner(web.AppRunner):
    """Runs the application in a single process.

    When the service ends, new connections are served for `delay` seconds more. `grace` is the
    maximum duration of the shutdown after that, in seconds. First, connections that are being
    established are accepted (5 to 10 % of the grace), and each open connection may send one more
    request, whose response closes it (15 %). Then idle connections are closed, and the requests
    in flight continue (40 %). Then all time limits expire, and what remains is cancelled.

    `keepalive` is how long a connection may be idle, in seconds.
    """

    __slots__ = ("_acceptor", "_connection_server", "_delay", "_grace", "_keepalive")

    def __init__(
        self,
        app: web.Application,
        *,
        grace: float,
        delay: float = 0,
        keepalive: float = DEFAULT_KEEPALIVE_SECONDS,
    ) -> None:
        super().__init__(app, shutdown_timeout=0)
        self._grace = grace
        self._delay = delay
        self._keepalive = keepalive
        self._connection_server: ConnectionServer | None = None
        self._acceptor: Acceptor | None = None

    @property
    def server(self) -> ConnectionServer | None:
        """The server that sites listen with; None before `setup`."""
        return self._connection_server

    async def setup(self) -> None:
        """Start the application."""
        await super().setup()
        limit = self.app[CONNECTIONS]
        limit.maximum = connections_within_limit(limit.maximum)
        made = cast("web.Server", super().server)
        draining = self.app[DRAINING]
        self._connection_server = ConnectionServer(made, draining, limit, self._keepalive)

    def accept_from(self, listeners: Iterable[socket.socket]) -> None:
        """Accept from these sockets, which the caller closes; call it after `setup`."""
        self._acceptor = Acceptor(cast("ConnectionServer", self.server), listeners)
        self._acceptor.start()

    async def announce_shutdown(self) -> None:
        """Report in `/readyz` that the service ends, and serve on for the delay."""
        self.app[SHUTTING_DOWN].set()
        if self._delay:  # otherwise the drain begins before the next request
            await asyncio.sleep(self._delay)

    def _begin_to_drain(self) -> None:
        self.app[SHUTTING_DOWN].set()
        self.app[DRAINING].set()

    async def begin_drain(self) -> None:
        """Mark the service as draining, and accept all connections that the kernel has queued."""
        self._begin_to_drain()
        await asyncio.sleep(self._grace * DRAIN_SHARE)
        limit, deadline, before = self.app[CONNECTIONS], self._deadline(_QUEUE_SHARE), -1
        while limit.accepted > before and monotonic() < deadline:
            before = limit.accepted
            await asyncio.sleep(_POLL_SECONDS)  # accepts at least one if the queue is not empty

    async def cleanup(self) -> None:
        """Stop accepting, answer every request, close every connection, and clean up."""
        self._begin_to_drain()
        if self._acceptor is not None:
            await self._acceptor.stop()
        for site in self.sites:
            await site.stop()
        if self.server is not None:
            await self._close_connections(self.server)
        await super().cleanup()

    async def _close_connections(self, server: ConnectionServer) -> None:
        await self._wait_for_connections(_IDLE_SHARE)
        server.pre_shutdown()  # closes idle connections
        await self._wait_for_connections(_BUSY_SHARE)
        self.app[TIMEOUTS].expire_all()
        # aiohttp waits this long twice: for handlers to finish, then for cancelled ones.
        await server.shutdown(self._grace * _LAST_SHARE)

    async def _wait_for_connections(self, share: float) -> None:
        """Wait until all connections are closed, for at most a share of the grace."""
        limit, deadline = self.app[CONNECTIONS], self._deadline(share)
        while limit.open and monotonic() < deadline:  # noqa: ASYNC110  a plain number
            await asyncio.sleep(_POLL_SECONDS)

    def _deadline(self, share: float) -> float:
        return monotonic() + self._grace * share


class WorkerRunner(Runner):
    """Runs one of several processes that accept from shared sockets, like gunicorn's workers.

    The other processes still hold the sockets, so the queue is accepted before the listener stops.
    `end` tells whether the service ends or only this process.
    """

    __slots__ = ("_end", "_listeners")

    def __init__(
        self,
        app: web.Application,
        *,
        grace: float,
        delay: float = 0,
        keepalive: float = DEFAULT_KEEPALIVE_SECONDS,
        listeners: Iterable[socket.socket] = (),
        end: EndOfService | None = None,
    ) -> None:
        super().__init__(app, grace=grace, delay=delay, keepalive=keepalive)
        self._listeners = tuple(listeners)
        self._end = end or EndOfService()

    async def setup(self) -> None:
        """Start the application, and accept connections."""
        await super().setup()
        self.accept_from(self._listeners)

    def _begin_to_drain(self) -> None:
        """Close each connection with its response; after a reload others serve on, so no 503."""
        self.app[DRAINING].set()

    async def cleanup(self) -> None:
        """Accept the queued connections, then shut down like a single process."""
        if self._end.is_announced:
            await self.announce_shutdown()
        if self._end.closes_sockets:
            stop_accepting(self._listeners)
        await self.begin_drain()
        await super().cleanup()

"""Runs the application and shuts it down gracefully: no request is lost."""

import asyncio
from time import monotonic
from typing import Final

from aiohttp import web

from server.serving.connection_server import ConnectionServer
from server.serving.socket_drain import DRAIN_SHARE
from server.serving.state import CONNECTIONS, DRAINING, TIMEOUTS

_POLL_SECONDS: Final = 0.02
_IDLE_SHARE: Final = 0.15
_BUSY_SHARE: Final = 0.45
_LAST_SHARE: Final = 0.1


class Runner(web.AppRunner):
    """Runs the application in a single process.

    `grace` is the maximum duration of the shutdown in seconds. The phases are: connections that
    are being established, 5 %; idle connections that may send one more request, 15 %; requests in
    flight, 45 %. Then all time limits expire, and what remains is cancelled.
    """

    __slots__ = ("_grace",)

    def __init__(self, app: web.Application, *, grace: float) -> None:
        # aiohttp waits this long twice: for handlers to finish, then for cancelled ones.
        super().__init__(app, shutdown_timeout=grace * _LAST_SHARE)
        self._grace = grace

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return ConnectionServer(made, self.app[DRAINING], self.app[CONNECTIONS])

    async def begin_drain(self) -> None:
        """Mark the service as draining and accept connections that the kernel has completed."""
        self.app[DRAINING].set()
        await asyncio.sleep(self._grace * DRAIN_SHARE)

    async def cleanup(self) -> None:
        """Stop accepting, answer every request, close every connection, and clean up."""
        self.app[DRAINING].set()
        for site in self.sites:
            await site.stop()
        if self.server is not None:
            await self._wait_for_connections(_IDLE_SHARE)
            self.server.pre_shutdown()  # closes idle connections
            await self._wait_for_connections(_BUSY_SHARE)
            self.app[TIMEOUTS].expire_all()
        await super().cleanup()

    async def _wait_for_connections(self, share: float) -> None:
        """Wait until all connections are closed, for at most a share of the grace."""
        limit, deadline = self.app[CONNECTIONS], monotonic() + self._grace * share
        while limit.open and monotonic() < deadline:  # noqa: ASYNC110  polled
            await asyncio.sleep(_POLL_SECONDS)


class WorkerRunner(Runner):
    """Runs one of several processes that accept from shared sockets, like gunicorn's workers.

    The other processes still hold the sockets, so the queue is accepted before the listener stops.
    """

    __slots__ = ()

    async def cleanup(self) -> None:
        """Accept the queued connections, then shut down like a single process."""
        await self.begin_drain()
        await super().cleanup()

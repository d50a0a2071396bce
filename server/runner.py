"""A server of its own, alone or as one of several, whose leaving loses nothing."""

import asyncio
from time import monotonic
from typing import Final

from aiohttp import web

from server.connection import ConnectionServer
from server.leaving import DRAIN_SHARE
from server.ops import LEAVING

_POLL_SECONDS: Final = 0.02


class Runner(web.AppRunner):
    """Runs the application as a server of its own, and ends it without losing a request.

    `grace` is how long ending may take, in seconds. It goes to: those still coming in, 5 %; those
    whose connection is idle but may ask once more, 20 %; requests under way, 30 %; and as much
    again for what is cancelled then.
    """

    __slots__ = ("_grace",)

    def __init__(self, app: web.Application, *, grace: float) -> None:
        # aiohttp gives this time twice: to finish by itself, then to finish being cancelled.
        super().__init__(app, shutdown_timeout=grace * 0.3)
        self._grace = grace

    async def _make_server(self) -> web.Server:
        return ConnectionServer(await super()._make_server(), self.app[LEAVING])

    async def announce(self) -> None:
        """Say that this is the end, while whom the kernel has let in already is accepted."""
        self.app[LEAVING].set()
        await asyncio.sleep(self._grace * DRAIN_SHARE)

    async def cleanup(self) -> None:
        """Accept nobody new; answer, and close, each connection that still asks; then end."""
        self.app[LEAVING].set()
        for site in self.sites:
            await site.stop()
        patience = monotonic() + self._grace * 0.2
        while self.server and self.server.connections and monotonic() < patience:  # noqa: ASYNC110  no event tells
            await asyncio.sleep(_POLL_SECONDS)
        await super().cleanup()


class WorkerRunner(Runner):
    """Runs one of several processes that accept from the same sockets, as gunicorn's workers do.

    The others, or the kernel, still hold these: who waits there is accepted before it stops.
    """

    __slots__ = ()

    async def cleanup(self) -> None:
        """Empty the queue, then end as a process alone does."""
        await self.announce()
        await super().cleanup()

"""A server of its own, alone or as one of several, whose leaving loses nothing."""

import asyncio
from time import monotonic
from typing import Final

from aiohttp import web

from middlewares.deadline import Budgets
from server.connection import ConnectionServer
from server.leaving import DRAIN_SHARE
from server.ops import LEAVING

BUDGETS: Final = web.AppKey("BUDGETS", Budgets)
"""The budgets of the application's requests, which at the end of the process end as well."""

_POLL_SECONDS: Final = 0.02
_IDLE_SHARE: Final = 0.2
_BUSY_SHARE: Final = 0.45
_LAST_SHARE: Final = 0.1


class Runner(web.AppRunner):
    """Runs the application as a server of its own, and ends it without losing a request.

    `grace` is how long ending may take, in seconds. It goes to: those still coming in, 5 %; those
    whose connection is idle but may ask once more, 20 %; requests under way, 45 %. Whoever waits
    still is then answered that the time has run out, and what does not end by that is cancelled.
    """

    __slots__ = ("_grace",)

    def __init__(self, app: web.Application, *, grace: float) -> None:
        # aiohttp gives this time twice: to finish by itself, then to finish being cancelled.
        super().__init__(app, shutdown_timeout=grace * _LAST_SHARE)
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
        if self.server is not None:
            await self._empty(self.server, _IDLE_SHARE)
            self.server.pre_shutdown()  # who has not asked by now is not waited for
            await self._empty(self.server, _BUSY_SHARE)
            self.app[BUDGETS].run_out()
        await super().cleanup()

    async def _empty(self, server: web.Server, share: float) -> None:
        """Wait until nobody is connected any more, for a share of the grace at most."""
        patience = monotonic() + self._grace * share
        while server.connections and monotonic() < patience:  # noqa: ASYNC110  no event tells
            await asyncio.sleep(_POLL_SECONDS)


class WorkerRunner(Runner):
    """Runs one of several processes that accept from the same sockets, as gunicorn's workers do.

    The others, or the kernel, still hold these: who waits there is accepted before it stops.
    """

    __slots__ = ()

    async def cleanup(self) -> None:
        """Empty the queue, then end as a process alone does."""
        await self.announce()
        await super().cleanup()

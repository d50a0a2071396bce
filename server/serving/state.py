"""Typed application keys that the application and the server share."""

import asyncio
from typing import Final

from aiohttp import web

from middlewares.timeout import RequestTimeouts
from server.serving.connection_limit import ConnectionLimit

SHUTTING_DOWN: Final = web.AppKey("SHUTTING_DOWN", asyncio.Event)
"""Set when the process has been told to end; new connections may still be served for a while."""

DRAINING: Final = web.AppKey("DRAINING", asyncio.Event)
"""Set when graceful shutdown begins."""

TIMEOUTS: Final = web.AppKey("TIMEOUTS", RequestTimeouts)
"""The time limits of the requests in flight; graceful shutdown expires them."""

CONNECTIONS: Final = web.AppKey("CONNECTIONS", ConnectionLimit)
"""The open connections and their limit."""

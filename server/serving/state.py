"""Typed application keys that the application and the server share."""

import asyncio
from typing import Final

from aiohttp import web

from middlewares.timeout import RequestTimeouts

DRAINING: Final = web.AppKey("DRAINING", asyncio.Event)
"""Set when graceful shutdown begins."""

TIMEOUTS: Final = web.AppKey("TIMEOUTS", RequestTimeouts)
"""The time limits of the requests in flight; graceful shutdown expires them."""

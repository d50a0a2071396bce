"""The connection to Redis, and whether it holds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

T = TypeVar("T")

_PROBE_SECONDS: Final = 1.0
_MAX_CONNECTIONS: Final = 32


class RedisGone(Exception):
    """Redis cannot be asked right now."""


class RedisLink:
    """Asks Redis; once it failed, nobody waits for it again until a probe has been answered.

    `url` is as redis-py takes it: `redis://`, `rediss://` or `unix://`; `timeout` is the seconds
    that one answer may take.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        self.pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 1),  # a connection that Redis closed while it was idle
        )
        self.client = Redis(connection_pool=self.pool)
        self.is_up = True

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Give the answer to a question. Raises `RedisGone`."""
        if not self.is_up:
            raise RedisGone
        try:
            return await question()
        except (RedisError, OSError, TimeoutError) as error:
            self._note(up=False, why=type(error).__name__)
            raise RedisGone from error

    async def probe(self) -> None:
        """Find out anew whether Redis answers."""
        try:
            await self.client.ping()
        except (RedisError, OSError, TimeoutError) as error:
            self._note(up=False, why=type(error).__name__)
        else:
            self._note(up=True, why="")

    async def run(self) -> None:
        """Probe every second until cancelled, then close the connections."""
        try:
            while True:
                await self.probe()
                await asyncio.sleep(_PROBE_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
        await self.pool.disconnect()

    def _note(self, *, up: bool, why: str) -> None:
        if up and not self.is_up:
            log.info("Redis answers again")
        elif not up and self.is_up:
            log.error("Redis does not answer: %s", why)
        self.is_up = up

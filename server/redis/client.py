"""The connection to Redis, and whether it holds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import Any, Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

log = logging.getLogger(__name__)

T = TypeVar("T")

_PROBE_SECONDS: Final = 1.0
_PROBE_KEY: Final = b"vapi-sessions:probe"
_MAX_CONNECTIONS: Final = 32
_REFUSAL_SECONDS: Final = 60.0
"""A refusal that was not met for so long is told anew when it is."""


class RedisUnavailable(Exception):  # noqa: N818  it names a state, not a defect
    """Redis cannot be reached, or rejected the command."""


class RedisClient:
    """Asks Redis; once it failed, nobody waits for it again until a probe has been answered.

    `url` is as redis-py takes it: `redis://`, `rediss://` or `unix://`; `timeout` is the seconds
    that one answer may take, connecting and all.
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
        self.credentials_rejected = False
        """Whether Redis rejected the credentials before the first successful probe."""
        self._has_answered = False
        self._timeout = timeout
        self._asking: set[asyncio.Future[Any]] = set()
        self._refused_at: dict[str, float] = {}

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Give the answer to a question. Raises `RedisUnavailable`."""
        if not self.is_up:
            raise RedisUnavailable
        try:
            return await self._in_time(question())
        except ResponseError as error:  # it is there: full, read-only, or not ours to ask
            self._record_rejection(type(error).__name__)
        except (RedisError, OSError, TimeoutError) as error:
            self._record_down(type(error).__name__)
        raise RedisUnavailable

    async def probe(self) -> None:
        """Find out anew whether Redis answers what requests ask of it."""
        try:
            await self._in_time(self.client.mget(_PROBE_KEY))
        except (RedisError, OSError, TimeoutError) as error:
            rejected = isinstance(error, AuthenticationError)
            self.credentials_rejected = rejected and not self._has_answered
            self._record_down(type(error).__name__)
        else:
            self._record_up()

    async def _in_time(self, answer: Awaitable[T]) -> T:
        """Wait no longer than `timeout`, and never cancel: redis-py now and then swallows that
        while it connects. What is not waited for any more ends by redis-py's own time-outs.
        """
        asking = asyncio.ensure_future(answer)
        self._asking.add(asking)
        asking.add_done_callback(self._forget)
        await asyncio.wait([asking], timeout=self._timeout)
        if not asking.done():
            raise TimeoutError
        return asking.result()

    def _forget(self, asked: asyncio.Future[Any]) -> None:
        self._asking.discard(asked)
        if not asked.cancelled():
            asked.exception()  # noted here, so that asyncio does not complain that nobody did

    async def run(self) -> None:
        """Probe every second until cancelled, then close the connections."""
        try:
            while True:
                await self.probe()
                await asyncio.sleep(_PROBE_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections, and leave what is still being asked."""
        for asking in self._asking:
            asking.cancel()
        if self._asking:
            await asyncio.wait(self._asking, timeout=2 * self._timeout)
        await self.pool.disconnect()

    def _record_up(self) -> None:
        if not self.is_up:
            log.info("Redis answers again")
        self.is_up = self._has_answered = True
        self.credentials_rejected = False

    def _record_down(self, why: str) -> None:
        if self.is_up:
            log.error("Redis does not answer: %s", why)
        self.is_up = False

    def _record_rejection(self, why: str) -> None:
        now = monotonic()
        if now - self._refused_at.get(why, -inf) >= _REFUSAL_SECONDS:
            log.error("Redis refuses what it is asked: %s", why)
        self._refused_at[why] = now

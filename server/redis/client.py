"""The client of Redis, and its state: only connecting and the probe decide whether Redis is up."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import partial
from time import monotonic
from typing import Any, Final

from coredis.connection import BaseConnection
from coredis.exceptions import AuthenticationError, AuthorizationError, RedisError

from server.redis.connection import (
    Argument,
    Execute,
    RedisDown,
    RedisFailure,
    UnexpectedAnswer,
    describe,
    execute,
    open_connection,
)

log = logging.getLogger(__name__)


class RedisState(StrEnum):
    """The state of Redis: `unknown` before the first verdict; `rejected` if our credentials are."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    REJECTED = "rejected"


Probe = Callable[[Execute], Awaitable[None]]
"""Sends what a request sends. Raises `RedisFailure` when requests cannot be served with Redis."""

_WAITS: Final = 4
_WAIT_SECONDS: Final = 0.5


async def run_probes(connection: BaseConnection, probes: Sequence[Probe]) -> None:
    """Run the probes. Raises `RedisFailure`, at most 2 seconds later.

    The time is counted in several waits: a process that was busy or stopped sees a timer expire
    before it has read the answer, which costs a single wait.
    """
    answers = asyncio.create_task(_run(partial(execute, connection), probes))
    try:
        for _ in range(_WAITS):
            await asyncio.wait([answers], timeout=_WAIT_SECONDS)
            if answers.done():
                return answers.result()
        raise TimeoutError
    finally:
        answers.cancel()
        await asyncio.gather(answers, return_exceptions=True)


async def _run(send: Execute, probes: Sequence[Probe]) -> None:
    await asyncio.gather(*(probe(send) for probe in probes))


_PROBE_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 0.5


class RedisClient:
    """Sends the commands of all requests over one connection, and the probes over another.

    A command that is not answered in time says nothing about Redis: it may have waited for this
    process or for the network. Redis is down when connecting fails, or when a probe is rejected
    or not answered within 2 seconds. Redis is not down while a lost connection can be reopened.
    """

    def __init__(self, url: str) -> None:
        self.state = RedisState.UNKNOWN
        self._has_been_up = False
        self.probes: list[Probe] = []
        self._url = url
        self._connection: BaseConnection | None = None
        self._lost = asyncio.Event()
        self._settled = asyncio.Event()  # set while there is a connection, or Redis is down

    @property
    def has_started(self) -> bool:
        """Whether Redis has been up once, or is down: it has not only rejected our credentials."""
        return self._has_been_up or self.state is RedisState.DOWN

    async def execute(self, command: bytes, *arguments: Argument, seconds: float) -> Any:
        """Return the answer to a command, at most `seconds` later.

        A command on a connection that is lost is sent again on the next one. Raises `RedisDown`,
        `RedisError` when Redis rejects the command, or TimeoutError.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._execute(command, *arguments)
        except TimeoutError:
            if self.state is RedisState.UNKNOWN:
                raise RedisDown from None
            raise

    async def _execute(self, command: bytes, *arguments: Argument) -> Any:
        while True:
            connection = self._connection or await self._reconnected()
            try:
                return await execute(connection, command, *arguments)
            except (RedisError, OSError) as error:
                if connection.is_connected:
                    raise
                self._on_lost(connection)
                if isinstance(error, UnexpectedAnswer):
                    raise

    async def _reconnected(self) -> BaseConnection:
        await self._settled.wait()
        if self._connection is None:
            raise RedisDown
        return self._connection

    def _on_lost(self, connection: BaseConnection) -> None:
        if connection is self._connection:
            self._connection = None
            self._settled.clear()
            self._lost.set()

    async def check(self) -> None:
        """Connect and probe once, and set the state."""
        try:
            async with open_connection(self._url) as connection:
                await run_probes(connection, self.probes)
        except RedisFailure as error:
            self._record_failure(error)
        else:
            self.state = RedisState.UP

    async def run(self) -> None:
        """Connect, probe and reconnect until cancelled: at once after a connection that lasted."""
        while True:
            began = monotonic()
            try:
                await self._run_connections()
            except RedisFailure as error:
                self._record_failure(error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await asyncio.sleep(_RETRY_SECONDS if monotonic() - began < _RETRY_SECONDS else 0)

    async def _run_connections(self) -> None:
        """Serve requests until a connection is lost. Raises `RedisFailure` when Redis is down."""
        async with open_connection(self._url) as probing, open_connection(self._url) as serving:
            await run_probes(probing, self.probes)
            self._record_up(serving)
            try:
                await self._keep_probing(probing, serving)
            finally:
                self._on_lost(serving)

    async def _keep_probing(self, probing: BaseConnection, serving: BaseConnection) -> None:
        while probing.is_connected and serving.is_connected:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_SECONDS):
                    await self._lost.wait()
                return
            try:
                await run_probes(probing, self.probes)
            except (RedisError, OSError):
                if probing.is_connected:
                    raise

    def _record_up(self, connection: BaseConnection) -> None:
        if self.state in {RedisState.DOWN, RedisState.REJECTED}:
            log.info("Redis is up again")
        self.state = RedisState.UP
        self._has_been_up = True
        self._connection = connection
        self._lost.clear()
        self._settled.set()

    def _record_failure(self, error: BaseException) -> None:
        rejected = isinstance(error, AuthenticationError | AuthorizationError)
        state = RedisState.REJECTED if rejected else RedisState.DOWN
        if state is not self.state:
            text = "Redis rejects the credentials of REDIS_URL" if rejected else "Redis is down"
            log.error("%s: %s", text, describe(error))
        self.state = state
        self._settled.set()

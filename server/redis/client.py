"""The client of Redis, and its state: only connecting and the probes decide whether Redis is up."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from enum import StrEnum
from time import monotonic
from typing import Any, Final, TypeVar

from server.redis.connection import (
    Argument,
    Connection,
    Execute,
    RedisDown,
    RedisError,
    RedisFailure,
    RedisRejection,
    RedisReplyError,
    UnexpectedAnswer,
    describe,
    open_connection,
)

log = logging.getLogger(__name__)

Probe = Callable[[Execute], Awaitable[None]]
"""Sends what a request sends. Raises `RedisFailure` when requests cannot be served with Redis."""

_Answer = TypeVar("_Answer")

READ_ONLY: Final = "READONLY"
"""The error of a server that has become a replica."""

PROBE_KEY: Final = b"{vapi-sessions}:probe"
_PROBE_MILLISECONDS: Final = 1000
_PROBE_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 0.5
_MAX_RETRY_SECONDS: Final = 2.0
_WAITS: Final = 4
_WAIT_SECONDS: Final = 0.5


class RedisState(StrEnum):
    """The state of Redis: `unknown` before the first verdict; `rejected` if our credentials are;
    `degraded` while it is read-only.
    """

    UNKNOWN = "unknown"
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    REJECTED = "rejected"


class RedisClient:
    """Sends the commands of all requests over one connection, and the probes over another.

    A command that is not answered in time says nothing about Redis: it may have waited for this
    process or for the network. Redis is down when connecting fails, when a probe is rejected or
    not answered within 2 seconds, or when nothing at all arrives on the other connection for as
    long. Redis is not down while a lost connection can be reopened.

    Of a name with several addresses, the next is tried first after a server that was down or
    read-only: such a server may accept connections all the same.

    `write_error` is the error with which Redis answers writes, or None. `failure` says why Redis
    was down or rejected our credentials, when it last was.
    """

    def __init__(self, url: str) -> None:
        self.state = RedisState.UNKNOWN
        self.write_error: str | None = None
        self.failure = ""
        self._has_been_up = False
        self.probes: list[Probe] = []
        self._url = url
        self._skipped_addresses = 0
        self._connection: Connection | None = None
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
        deadline = monotonic() + seconds
        while True:
            connection = self._connection or await self._reconnected(deadline)
            answer = connection.execute(command, *arguments)
            timer = answer.get_loop().call_later(deadline - monotonic(), _time_out, answer)
            try:
                return await answer
            except RedisError as error:
                if connection.is_connected():
                    raise
                self._on_lost(connection)
                if isinstance(error, UnexpectedAnswer):
                    raise
            finally:
                timer.cancel()

    async def _reconnected(self, deadline: float) -> Connection:
        try:
            async with asyncio.timeout(deadline - monotonic()):
                await self._settled.wait()
        except TimeoutError:
            if self.state is RedisState.UNKNOWN:
                raise RedisDown from None
            raise
        if self._connection is None:
            raise RedisDown
        return self._connection

    def _on_lost(self, connection: Connection) -> None:
        if connection is self._connection:
            self._connection = None
            self._settled.clear()
            self._lost.set()

    async def check(self) -> None:
        """Connect and probe once, and set the state."""
        try:
            async with open_connection(self._url) as connection:
                self.write_error = await self._probe(connection.execute)
        except RedisFailure as error:
            self._record_failure(error)
        else:
            self.state = self._state_of_writes()

    async def run(self) -> None:
        """Connect, probe and reconnect until cancelled: at once after a connection that lasted."""
        while True:
            began = monotonic()
            try:
                await self._run_connections()
            except RedisFailure as error:
                self._record_failure(error)
                self._skipped_addresses += 1
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await asyncio.sleep(_RETRY_SECONDS if monotonic() - began < _RETRY_SECONDS else 0)

    async def _run_connections(self) -> None:
        """Serve requests until a connection is lost. Raises `RedisFailure` when Redis is down."""
        async with self._open() as probing, self._open() as serving:
            write_error = await self._probe(probing.execute)
            self._connection = serving
            self._lost.clear()
            self._settled.set()
            self._record_up(write_error)
            try:
                await self._keep_probing(probing, serving)
            finally:
                self._on_lost(serving)

    def _open(self) -> AbstractAsyncContextManager[Connection]:
        return open_connection(self._url, self._skipped_addresses)

    async def _keep_probing(self, probing: Connection, serving: Connection) -> None:
        """Probe until a connection is lost, or a server that accepts writes is found."""
        search = _Search()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_SECONDS):
                    await self._lost.wait()
                return
            try:
                _, write_error = await asyncio.gather(
                    ensure_alive(serving), self._probe(probing.execute)
                )
            except (RedisError, OSError):
                if probing.is_connected() and serving.is_connected():
                    raise
                return
            self._record_up(write_error)
            if write_error == READ_ONLY and search.is_due() and await self._accepts_writes_anew():
                return

    async def _probe(self, execute: Execute) -> str | None:
        """Send the probes, and write; return the error of the write, if any."""
        probes = asyncio.gather(_write(execute), *(probe(execute) for probe in self.probes))
        write_error, *_ = await answered(probes)
        return write_error

    async def _accepts_writes_anew(self) -> bool:
        """Return whether a new connection leads to a server that is not read-only."""
        with suppress(*RedisFailure):
            async with self._open() as connection:
                if await answered(_write(connection.execute)) != READ_ONLY:
                    return True
        self._skipped_addresses += 1
        return False

    def _state_of_writes(self) -> RedisState:
        return RedisState.DEGRADED if self.write_error == READ_ONLY else RedisState.UP

    def _record_up(self, write_error: str | None) -> None:
        """Record an answered probe; log when the state changes."""
        self.write_error = write_error
        state = self._state_of_writes()
        if state is not self.state:
            if state is RedisState.DEGRADED:
                log.warning("Redis is read-only: limits are counted in the process")
            elif self.state is not RedisState.UNKNOWN:
                log.info("Redis is up again")
        self.state = state
        self._has_been_up = True

    def _record_failure(self, error: BaseException) -> None:
        rejected = isinstance(error, RedisRejection)
        state = RedisState.REJECTED if rejected else RedisState.DOWN
        self.failure = describe(error)
        if state is not self.state:
            text = "Redis rejects the credentials of REDIS_URL" if rejected else "Redis is down"
            log.error("%s: %s", text, self.failure)
        self.state = state
        self._settled.set()


def _time_out(answer: asyncio.Future[Any]) -> None:
    with suppress(asyncio.InvalidStateError):  # its caller has not run since it arrived
        answer.set_exception(TimeoutError())


class _Search:
    """When to look for a server that accepts writes: after 0.5 s, then at doubling intervals."""

    def __init__(self) -> None:
        self._seconds = _RETRY_SECONDS
        self._next = 0.0

    def is_due(self) -> bool:
        """Return whether it is time, and set the next time."""
        if (now := monotonic()) < self._next:
            return False
        self._next = now + self._seconds
        self._seconds = min(2 * self._seconds, _MAX_RETRY_SECONDS)
        return True


async def _write(execute: Execute) -> str | None:
    """Write a key that expires; return the error with which Redis answers, or None."""
    try:
        await execute(b"SET", PROBE_KEY, b"1", b"PX", _PROBE_MILLISECONDS)
    except RedisRejection as error:
        if error.code != "NOPERM":  # without the permission only `revoke` and `pause` fail
            raise
        return error.code
    except RedisReplyError as error:
        return describe(error)
    return None


async def ensure_alive(connection: Connection) -> None:
    """Return if anything arrives within 2 seconds. Raises `RedisFailure`.

    Under load the answer may be later; then the answers before it arrive.
    """
    before = connection.answers
    try:
        await answered(connection.execute(b"MGET", PROBE_KEY))
    except TimeoutError:
        if connection.answers == before:
            raise


async def answered(answer: Awaitable[_Answer]) -> _Answer:
    """Return an answer. Raises what the awaitable raises, or TimeoutError 2 seconds later.

    The time is counted in several waits: a process that was busy or stopped sees a timer expire
    before it has read the answer, which costs a single wait.
    """
    task = asyncio.ensure_future(answer)
    try:
        for _ in range(_WAITS):
            await asyncio.wait([task], timeout=_WAIT_SECONDS)
            if task.done():
                return task.result()
        raise TimeoutError
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

"""Connections to the Redis of `REDIS_URL`, through coredis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ssl import CERT_NONE, SSLContext
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from coredis.connection import BaseConnection, Connection, UnixDomainSocketConnection
from coredis.exceptions import ConnectionError as RedisConnectionError
from coredis.exceptions import RedisError, ResponseError
from coredis.pool import ConnectionPool

RedisFailure: Final = (RedisError, OSError, TimeoutError)
"""What is raised when a connection cannot be opened, or gives no regular answer to a command."""


class RedisDown(Exception):  # noqa: N818  it names a state, not a defect
    """Redis is down, or not known to be up in time."""


class UnexpectedAnswer(RedisConnectionError):  # noqa: N818  as RedisDown
    """An answer that the command cannot have: answers no longer match the commands."""


Argument = bytes | str | int
Execute = Callable[..., Awaitable[Any]]
"""Sends a command (its name and arguments) and returns the answer. Raises `RedisFailure`."""

_CONNECT_SECONDS: Final = 2.0
_OPTIONS: Final = ("host", "port", "path", "username", "password", "db", "ssl_context")


class _StrictConnection(BaseConnection):
    """Closes the connection of a server that does not speak Redis's protocol.

    asyncio would close it too, and log a stack trace with what the server sent.
    """

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except Exception:  # noqa: BLE001  the parser raises various exceptions
            self.disconnect()


class _TcpConnection(_StrictConnection, Connection):
    pass


class _UnixConnection(_StrictConnection, UnixDomainSocketConnection):
    pass


@asynccontextmanager
async def open_connection(url: str) -> AsyncIterator[BaseConnection]:
    """Open a connection within 2 seconds; close it at the end. Raises `RedisFailure`.

    It multiplexes: commands are sent at once, and answers are matched by their order.
    """
    connection = _make_connection(url)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await connection.connect()
        yield connection
    finally:
        connection.disconnect()


async def execute(connection: BaseConnection, command: bytes, *arguments: Argument) -> Any:
    """Send a command; return the answer. Raises `RedisError`, or OSError for a lost connection.

    An answer that the command cannot have closes the connection: the next ones may be those
    of other requests.
    coredis closes the connection when a caller that waits for an answer is cancelled. The shield
    prevents that: other requests use the connection too.
    """
    if not connection.is_connected:  # coredis would open it again
        raise RedisConnectionError("connection lost")
    answer = await asyncio.shield(await connection.create_request(command, *arguments))
    if not _fits(command, arguments, answer):
        connection.disconnect()
        raise UnexpectedAnswer
    return answer


def _fits(command: bytes, arguments: Sequence[Argument], answer: object) -> bool:
    if command == b"MGET":
        return (
            isinstance(answer, list)
            and len(answer) == len(arguments)
            and all(entry is None or isinstance(entry, bytes) for entry in answer)
        )
    return command not in {b"EVALSHA", b"EVAL"} or isinstance(answer, int)


async def execute_once(url: str, command: bytes, *arguments: Argument) -> Any:
    """Return the answer to one command, on a connection of its own. Raises `RedisFailure`."""
    async with open_connection(url) as connection, asyncio.timeout(_CONNECT_SECONDS):
        return await execute(connection, command, *arguments)


def _make_connection(url: str) -> BaseConnection:
    parsed: Any = ConnectionPool.from_url(url, decode_components=True)
    given = parsed.connection_kwargs
    options = {name: given[name] for name in _OPTIONS if name in given}
    _check_host_name(url, options.get("ssl_context"))
    if parsed.connection_class is UnixDomainSocketConnection:
        return _UnixConnection(**options)
    return _TcpConnection(**options)


def _check_host_name(url: str, context: SSLContext | None) -> None:
    """Verify the host name of a TLS certificate by default, which coredis does not."""
    if context is None or "ssl_check_hostname" in parse_qs(urlsplit(url).query):
        return
    context.check_hostname = context.verify_mode is not CERT_NONE


def describe(error: BaseException) -> str:
    """Name the cause of a `RedisFailure` for the log, without text that may contain user data."""
    while error.__cause__ is not None:
        error = error.__cause__
    prefix = str(error).partition(" ")[0]  # Redis's own name of an error, such as OOM
    return prefix if type(error) is ResponseError and prefix.isupper() else type(error).__name__

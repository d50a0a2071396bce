"""Connections to the Redis of `REDIS_URL`, through coredis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ssl import CERT_NONE, SSLContext
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from coredis.connection import BaseConnection
from coredis.exceptions import RedisError, ResponseError
from coredis.pool import ConnectionPool

RedisFailure: Final = (RedisError, OSError, TimeoutError)
"""What opening a connection, or a command on it, raises when Redis gives no regular answer."""

_CONNECT_SECONDS: Final = 2.0
_OPTIONS: Final = ("username", "password", "db", "ssl_context")


@asynccontextmanager
async def open_connections(url: str, count: int) -> AsyncIterator[list[BaseConnection]]:
    """Open connections, each within 2 seconds; close them at the end.

    Each multiplexes: commands are sent at once, and answers are matched by their order. All tasks
    of a connection run inside this context, so it is entered and left in a single task. Raises
    `RedisFailure`, also for what the body raises of it.
    """
    try:
        async with _make_pool(url, count) as pool, AsyncExitStack() as stack:
            connections = []
            for _ in range(count):
                async with asyncio.timeout(_CONNECT_SECONDS):
                    connections.append(await stack.enter_async_context(pool.acquire()))
            yield connections
    except ExceptionGroup as group:  # from the task group of coredis
        error = _first_leaf(group)
        raise error from error.__cause__


async def execute_once(url: str, command: bytes, *arguments: str | bytes | float) -> Any:
    """Return the answer to one command, on a connection of its own. Raises `RedisFailure`."""
    async with open_connections(url, 1) as (connection,):
        return await connection.create_request(command, *arguments, timeout=_CONNECT_SECONDS)


def _make_pool(url: str, connections: int) -> ConnectionPool[Any]:
    parsed = ConnectionPool.from_url(url, decode_components=True)
    given: Any = parsed.connection_kwargs
    options = {name: given[name] for name in _OPTIONS if name in given}
    _check_host_name(url, options.get("ssl_context"))
    return ConnectionPool(
        connection_class=parsed.connection_class,
        location=parsed.location,
        max_connections=connections,
        **options,
    )


def _check_host_name(url: str, context: SSLContext | None) -> None:
    """Verify the host name of a TLS certificate by default, which coredis does not."""
    if context is None or "ssl_check_hostname" in parse_qs(urlsplit(url).query):
        return
    context.check_hostname = context.verify_mode is not CERT_NONE


def _first_leaf(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def describe(error: BaseException) -> str:
    """Name the cause of a `RedisFailure` for the log, without text that may hold user data."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ExceptionGroup):
        error = _first_leaf(error)
    prefix = str(error).partition(" ")[0]  # Redis's own name of an error, such as OOM
    return prefix if type(error) is ResponseError and prefix.isupper() else type(error).__name__

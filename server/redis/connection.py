"""Connections to the Redis of `REDIS_URL`: RESP2, many commands at a time over one connection."""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from aiohappyeyeballs import start_connection

from server.config.redis_url import RedisAddress, parse_redis_url


class RedisDown(Exception):  # noqa: N818  it names a state, not a defect
    """Redis is down, or not known to be up in time."""


class RedisError(Exception):
    """Redis gives no regular answer to a command."""


class RedisReplyError(RedisError):
    """Redis answers a command with an error; `code` is its first word, such as OOM."""

    @property
    def code(self) -> str:
        """The first word of the answer, or nothing if it is not in capitals."""
        word = str(self).partition(" ")[0]
        return word if word.isupper() else ""


class RedisRejection(RedisReplyError):  # noqa: N818  as RedisDown
    """Redis rejects our credentials, or they do not permit a command."""


class RedisConnectionLost(RedisError):  # noqa: N818  as RedisDown
    """The connection ended before the answer."""


class UnexpectedAnswer(RedisConnectionLost):
    """An answer that the command cannot have, or that is too large. It ends the connection, as the
    next answers may be those of other requests.
    """


RedisFailure: Final = (RedisError, OSError, TimeoutError)
"""What is raised when a connection cannot be opened, or gives no regular answer to a command."""

Argument = bytes | str | int
Execute = Callable[..., Awaitable[Any]]
"""Sends a command (its name and arguments) and returns the answer. Raises `RedisFailure`."""

_CONNECT_SECONDS: Final = 2.0
_NEXT_ADDRESS_SECONDS: Final = 0.25
"""How long an address of a name has before the next is tried beside it (RFC 8305)."""
_UNACKNOWLEDGED_MILLISECONDS: Final = 2500
_MAX_ANSWER_BYTES: Final = 65536
_PIECE_BYTES: Final = 1024
_REJECTIONS: Final = ("NOAUTH ", "WRONGPASS ", "NOPERM ")
_INCOMPLETE: Final = object()
_VALUES: Final = frozenset({bytes, type(None)})
"""The types of the values of keys."""
_Command = tuple[asyncio.Future[Any], bytes, tuple[Argument, ...]]


def _reply_error(text: str) -> RedisReplyError:
    return (RedisRejection if text.startswith(_REJECTIONS) else RedisReplyError)(text)


class Connection(asyncio.Protocol):
    """Sends commands at once, and matches the answers by their order.

    A server that does not speak Redis's protocol, or that answers with more than 64 KiB, loses
    the connection. A command whose caller was cancelled costs nothing: its answer is dropped.
    """

    def __init__(self) -> None:
        import hiredis  # only with REDIS_URL

        self._pack = hiredis.pack_command
        self._protocol_error = hiredis.HiredisError
        self._reader = hiredis.Reader(replyError=_reply_error, notEnoughData=_INCOMPLETE)
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._pending: deque[_Command] = deque()
        self._incomplete_bytes = 0
        self.answers = 0

    def is_connected(self) -> bool:
        """Return whether commands can be sent."""
        return self._transport is not None

    def execute(self, command: bytes, *arguments: Argument) -> asyncio.Future[Any]:
        """Send a command; return its answer, which raises `RedisError`."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        if not self.is_connected():
            answer.set_exception(RedisConnectionLost())
            return answer
        if not self._outgoing:
            loop.call_soon(self._flush)
        self._outgoing.append(self._pack((command, *arguments)))  # type: ignore[arg-type]
        self._pending.append((answer, command, arguments))
        return answer

    def _flush(self) -> None:
        """Write the commands of one turn of the event loop together."""
        if self._transport is not None:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport: an asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse answers, in pieces, so that the size of each is known: an asyncio.Protocol."""
        try:
            for start in range(0, len(data), _PIECE_BYTES):
                self._parse(data[start : start + _PIECE_BYTES])
        except (self._protocol_error, UnexpectedAnswer) as error:
            if self._pending and not (first := self._pending.popleft()[0]).done():
                first.set_exception(UnexpectedAnswer())  # sent again, it would fail again
            self.close(error)

    def _parse(self, piece: bytes) -> None:
        self._reader.feed(piece)
        self._incomplete_bytes += len(piece)
        while (answer := self._reader.gets()) is not _INCOMPLETE:
            self._incomplete_bytes = 0
            self._resolve(answer)
        if self._incomplete_bytes >= _MAX_ANSWER_BYTES:
            raise UnexpectedAnswer

    def _resolve(self, answer: Any) -> None:
        """Give the answer to the command that waits longest."""
        if not self._pending:
            raise UnexpectedAnswer
        future, command, arguments = self._pending[0]
        is_error = isinstance(answer, RedisError)
        if not is_error and not _fits(command, arguments, answer):
            raise UnexpectedAnswer
        self._pending.popleft()
        self.answers += 1
        if future.done():
            return
        if is_error:
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the commands that wait: an asyncio.Protocol."""
        self.close(error)

    def close(self, reason: Exception | None = None) -> None:
        """Close the connection; commands that wait fail because of `reason`."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        while self._pending:
            future, *_ = self._pending.popleft()
            if not future.done():
                error = RedisConnectionLost()
                error.__cause__ = reason
                future.set_exception(error)


def _fits(command: bytes, arguments: Sequence[Argument], answer: object) -> bool:
    if command not in {b"MGET", b"EVALSHA"}:
        return True
    if not isinstance(answer, list):
        return False
    types = [*map(type, answer)]
    if command == b"MGET":
        return len(types) == len(arguments) and _VALUES.issuperset(types)
    # values of all keys but the last, and a number
    return len(types) == arguments[1] and types.pop() is int and _VALUES.issuperset(types)


@asynccontextmanager
async def open_connection(url: str, skip: int = 0) -> AsyncIterator[Connection]:
    """Open a connection within 2 seconds; close it at the end. Raises `RedisFailure`.

    Of the addresses of a name, `skip` are tried last; beyond their number it begins anew.
    """
    address = parse_redis_url(url)
    connection = Connection()
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await _connect(address, connection, skip)
            await _log_in(address, connection)
        yield connection
    finally:
        connection.close()


async def _connect(address: RedisAddress, connection: Connection, skip: int) -> None:
    loop = asyncio.get_running_loop()
    if address.path:
        await loop.create_unix_connection(lambda: connection, address.path)
        return
    context = address.tls.make_context() if address.tls else None
    stream = await _open_socket(address, skip)
    await loop.create_connection(
        lambda: connection,
        sock=stream,
        ssl=context,
        server_hostname=address.host if context else None,
    )


async def _open_socket(address: RedisAddress, skip: int) -> socket.socket:
    """Connect to the first address of the name that answers."""
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    )
    first = skip % len(found)
    found = [*found[first:], *found[:first]]
    stream = await start_connection(found, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # pragma: no branch  Linux
        option = socket.TCP_USER_TIMEOUT
        stream.setsockopt(socket.IPPROTO_TCP, option, _UNACKNOWLEDGED_MILLISECONDS)
    return stream


async def _log_in(address: RedisAddress, connection: Connection) -> None:
    """Authenticate, and select the database. HELLO and CLIENT SETINFO need more permissions."""
    if address.username or address.password:
        names = (address.username,) if address.username else ()
        try:
            await connection.execute(b"AUTH", *names, address.password)
        except RedisReplyError as error:
            raise RedisRejection(*error.args) from None
    if address.database:
        await connection.execute(b"SELECT", address.database)


async def execute_once(url: str, command: bytes, *arguments: Argument) -> Any:
    """Return the answer to one command, on a new connection. Raises `RedisFailure`."""
    async with open_connection(url) as connection, asyncio.timeout(_CONNECT_SECONDS):
        return await connection.execute(command, *arguments)


def describe(error: BaseException) -> str:
    """Name the cause of a `RedisFailure` for the log, without text that may contain user data."""
    while error.__cause__ is not None:
        error = error.__cause__
    code = error.code if isinstance(error, RedisReplyError) else ""
    return code or type(error).__name__

"""How Redis fails in networks: silence, failover, dead addresses, and answers of any size."""

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from rig.redis_server import RedisServer, free_port
from rig.tcp_proxy import TcpProxy
from rig.waiting import eventually
from server.redis.client import RedisClient, RedisState, answered
from server.redis.connection import (
    Execute,
    RedisConnectionLost,
    UnexpectedAnswer,
    execute_once,
    open_connection,
)
from tests.conftest import Serve
from tests.server.redis.support import code, get, metric, reaches, reports, running

pytestmark = pytest.mark.redis

READ_ONLY = "Redis is read-only: limits are counted in the process"
UP_AGAIN = "Redis is up again"


@pytest.fixture(autouse=True)
def records_of_redis(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "server.redis")


# --- silence ------------------------------------------------------------------------------------


async def test_connection_of_requests_that_falls_silent_is_replaced_within_3_seconds(
    redis_server: RedisServer, proxy: TcpProxy, caplog: pytest.LogCaptureFixture
) -> None:
    await redis_server.execute("SET", "greeting", "hello")
    async with running(proxy.url) as client:
        await reaches(client, RedisState.UP)
        proxy.clients[1].is_silent = True
        began = monotonic()
        await reaches(client, RedisState.DOWN)
        assert 1.5 < monotonic() - began < 3
        await reaches(client, RedisState.UP)
        assert monotonic() - began < 4
        assert await get(client) == b"hello"
    assert caplog.messages == ["Redis is down: TimeoutError", UP_AGAIN]


@pytest.mark.usefixtures("quick")
async def test_connection_under_load_is_not_silent(proxy: TcpProxy) -> None:
    """The answer to the probe may wait for longer than 2 seconds behind those of requests."""
    async with running(proxy.url) as client:
        await reaches(client, RedisState.UP)
        connection = client._connection
        assert connection is not None
        probes = 0

        async def execute(*_: object) -> None:
            nonlocal probes
            probes += 1
            connection.answers += 1
            await asyncio.Event().wait()

        async def has_probed_often() -> bool:
            return probes == 2

        connection.execute = execute  # type: ignore[method-assign,assignment]
        await eventually(has_probed_often)
        assert client.state is RedisState.UP
        assert client._connection is connection


async def test_answers_that_arrive_while_the_process_is_busy_count(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.redis.client._WAIT_SECONDS", 0.1)

    async def block(execute: Execute) -> None:
        answer = execute(b"MGET", b"{vapi-sessions}:a")
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251  a process that does nothing else for longer than all waits
        await answer

    async with open_connection(redis_server.url) as connection:
        await answered(block(connection.execute))


async def test_commands_of_a_lost_connection_leave_no_error_behind(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(redis_server.url) as client:
        await reaches(client, RedisState.UP)
        redis_server.suspend()
        pending = [asyncio.create_task(get(client, seconds=0.1)) for _ in range(50)]
        answers = await asyncio.gather(*pending, return_exceptions=True)
        assert {type(answer) for answer in answers} == {TimeoutError}
        await redis_server.stop()
        await reaches(client, RedisState.DOWN)
    gc.collect()
    await asyncio.sleep(0)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("Redis is down: ")


# --- failover -----------------------------------------------------------------------------------


async def test_failover_is_noticed_and_the_new_server_is_found(
    serve: Serve,
    redis_server: RedisServer,
    proxy: TcpProxy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = await RedisServer(tmp_path).start()
    try:
        service = await serve(REDIS_URL=proxy.url, RATE_LIMIT="2/hour", METRICS_ENABLED="true")
        await reports(service, "up")
        await redis_server.execute("SET", "{vapi-sessions}:revoked:patient:pt_2", "1")
        await redis_server.execute("REPLICAOF", "127.0.0.1", str(free_port()))
        await reports(service, "degraded")
        assert (await service.ask("GET", "/readyz")).json["status"] == "degraded"
        assert await metric(service, "redis_up") == 0
        assert [await code(service) for _ in range(3)] == [None, None, "RATE_LIMITED"]
        assert await code(service, id="pt_2") == "AUTH_TOKEN_REVOKED"
        proxy.target = other.port
        await other.execute("SET", "{vapi-sessions}:revoked:patient:pt_3", "1")
        began = monotonic()
        await reports(service, "up")
        assert monotonic() - began < 3
        assert await code(service, id="pt_3") == "AUTH_TOKEN_REVOKED"
        assert [await code(service) for _ in range(3)] == [None, None, "RATE_LIMITED"]
        assert await metric(service, "redis_up") == 1
    finally:
        await other.stop()
    assert caplog.messages == [READ_ONLY, UP_AGAIN]


@pytest.mark.usefixtures("quick")
async def test_server_that_is_promoted_again_is_up(
    client: RedisClient, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await redis_server.execute("REPLICAOF", "127.0.0.1", str(free_port()))
    await reaches(client, RedisState.DEGRADED)
    assert client.write_error == "READONLY"
    await asyncio.sleep(0.4)  # nothing better is found
    assert await get(client) is None
    await redis_server.execute("REPLICAOF", "NO", "ONE")
    await reaches(client, RedisState.UP)
    assert caplog.messages == [READ_ONLY, UP_AGAIN]


@pytest.mark.usefixtures("quick")
async def test_read_only_server_is_kept_while_no_other_can_be_reached(
    redis_server: RedisServer, proxy: TcpProxy
) -> None:
    async with running(proxy.url) as client:
        await redis_server.execute("REPLICAOF", "127.0.0.1", str(free_port()))
        await reaches(client, RedisState.DEGRADED)
        proxy.target = free_port()
        await asyncio.sleep(0.6)
        assert client.state is RedisState.DEGRADED
        assert await get(client) is None


async def test_check_tells_that_redis_cannot_be_written(redis_server: RedisServer) -> None:
    client = RedisClient(redis_server.url)
    await redis_server.execute("CONFIG", "SET", "maxmemory", "1")
    await client.check()
    assert (client.state, client.write_error) == (RedisState.UP, "OOM")
    await redis_server.execute("CONFIG", "SET", "maxmemory", "0")
    await redis_server.execute("ACL", "SETUSER", "default", "-set")
    await client.check()
    assert (client.state, client.write_error) == (RedisState.UP, "NOPERM")
    await redis_server.execute("REPLICAOF", "127.0.0.1", str(free_port()))
    await redis_server.execute("ACL", "SETUSER", "default", "+@all")
    await client.check()
    assert (client.state, client.write_error) == (RedisState.DEGRADED, "READONLY")


# --- names with several addresses -----------------------------------------------------------------


@contextmanager
def dead_address(port: int) -> Iterator[str]:
    """Drop every packet of new connections to an address: its queue of connections is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.2", port))
        yield "127.0.0.2"


@pytest.fixture
def name_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Give a name to several addresses; return the URL that has it."""

    def give(*addresses: tuple[str, int]) -> str:
        async def resolve(*_: object, **__: object) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        return "redis://redis.internal"

    return give


async def test_dead_address_of_a_name_is_passed_over(
    redis_server: RedisServer, name_of: Callable[..., str]
) -> None:
    with dead_address(redis_server.port) as dead:
        url = name_of((dead, redis_server.port), ("127.0.0.1", redis_server.port))
        began = monotonic()
        assert await execute_once(url, b"ECHO", b"hello") == b"hello"
        assert 0.2 < monotonic() - began < 1.5


@pytest.mark.usefixtures("quick")
async def test_address_that_accepts_connections_and_is_silent_is_passed_over(
    redis_server: RedisServer, proxy: TcpProxy, name_of: Callable[..., str]
) -> None:
    url = name_of(("127.0.0.1", proxy.port), ("127.0.0.1", redis_server.port))
    async with running(url) as client:
        await reaches(client, RedisState.UP)
        proxy.is_stalled = True
        await reaches(client, RedisState.DOWN)
        await reaches(client, RedisState.UP)


@pytest.mark.usefixtures("quick")
async def test_writable_server_of_a_name_is_found(
    redis_server: RedisServer, tmp_path: Path, name_of: Callable[..., str]
) -> None:
    other = await RedisServer(tmp_path).start()
    try:
        url = name_of(("127.0.0.1", redis_server.port), ("127.0.0.1", other.port))
        async with running(url) as client:
            await reaches(client, RedisState.UP)
            await redis_server.execute("REPLICAOF", "127.0.0.1", str(other.port))
            await reaches(client, RedisState.DEGRADED)
            await reaches(client, RedisState.UP)
    finally:
        await other.stop()


@pytest.mark.usefixtures("quick")
async def test_address_that_does_not_answer_is_a_time_out(redis_server: RedisServer) -> None:
    with dead_address(redis_server.port) as dead, pytest.raises(TimeoutError):
        await execute_once(redis_server.url.replace("127.0.0.1", dead), b"ECHO", b"hello")


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "is_read"), [(60_000, True), (66_600, False)])
async def test_answer_of_more_than_64_kib_ends_the_connection(
    client: RedisClient, redis_server: RedisServer, size: int, *, is_read: bool
) -> None:
    await redis_server.execute("SETRANGE", "greeting", str(size - 1), "x")
    connection = client._connection
    if is_read:
        assert len(await get(client)) == size
        assert client._connection is connection
    else:
        with pytest.raises(UnexpectedAnswer):
            await get(client)
        assert await client.execute(b"ECHO", b"hello", seconds=5) == b"hello"
        assert client._connection is not connection


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[str, bytearray]]:
    """Answer each command with the next of `answers`; yield the address and what is received."""
    received = bytearray()
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for each in answers:
            received.extend(await reader.read(1000))
            writer.write(each)
        await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"redis://user:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/3", received
        await ended.wait()


async def test_answer_that_nobody_asked_for_ends_the_connection() -> None:
    async with answering(b"+OK\r\n+OK\r\n") as (url, _):
        with pytest.raises(RedisConnectionLost):
            await execute_once(url, b"ECHO", b"hello")


async def test_handshake_sends_nothing_but_credentials_and_the_database() -> None:
    async with answering(b"+OK\r\n", b"+OK\r\n", b"$5\r\nhello\r\n") as (url, received):
        assert await execute_once(url, b"ECHO", b"hello") == b"hello"
    words = [word for word in received.decode().split("\r\n") if word and word[0] not in "*$"]
    assert words == ["AUTH", "user", "secret", "SELECT", "3", "ECHO", "hello"]

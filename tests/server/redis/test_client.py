"""The client of Redis: answers, lost connections, and what counts as an outage."""

import asyncio
from time import monotonic

import pytest

from rig.redis_server import RedisServer
from rig.tcp_proxy import TcpProxy
from rig.waiting import eventually
from server.redis.client import RedisClient, RedisState
from server.redis.connection import RedisDown
from tests.server.redis.support import get, reaches, read, running

pytestmark = pytest.mark.redis


@pytest.fixture(autouse=True)
def records_of_the_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "server.redis.client")


def started(client: RedisClient) -> bool:
    """Read the property in a call: it changes in the background."""
    return client.has_started


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "server.redis.client"]


async def connection_ids(redis_server: RedisServer) -> list[str]:
    """Return the ids of all connections but that of redis-cli."""
    lines = (await redis_server.execute("CLIENT", "LIST")).splitlines()
    return [line.split()[0] for line in lines if "cmd=client" not in line]


# --- answers ------------------------------------------------------------------------------------


async def test_command_before_the_first_verdict_waits_for_it(
    redis_server: RedisServer, proxy: TcpProxy
) -> None:
    await redis_server.execute("SET", "greeting", "hello")
    proxy.delay = 0.1
    async with running(proxy.url) as client:
        assert client.state.name == "UNKNOWN"
        assert await get(client) == b"hello"
        assert client.state.name == "UP"


async def test_concurrent_commands_share_one_connection_and_one_round_trip(
    redis_server: RedisServer, proxy: TcpProxy
) -> None:
    proxy.delay = 0.2
    async with running(proxy.url) as client:
        await reaches(client, RedisState.UP)
        start = monotonic()
        answers = await asyncio.gather(
            *(client.execute(b"ECHO", str(number), seconds=30) for number in range(2000))
        )
        assert answers == [str(number).encode() for number in range(2000)]
        assert monotonic() - start < 12  # one after the other over 32 connections: 25 s
        assert len(await connection_ids(redis_server)) == 2


async def test_cancelled_command_leaves_no_answer_to_the_next(
    client: RedisClient, redis_server: RedisServer
) -> None:
    await redis_server.execute("MSET", "mine", "secret", "yours", "plain")
    before = await connection_ids(redis_server)
    redis_server.suspend()
    cancelled = asyncio.create_task(get(client, "mine"))
    await asyncio.sleep(0)
    pending = [asyncio.create_task(get(client, "yours")) for _ in range(3)]
    await asyncio.sleep(0)
    cancelled.cancel()
    redis_server.resume()
    assert await asyncio.gather(*pending) == [b"plain"] * 3
    assert await connection_ids(redis_server) == before


# --- lost connections ---------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
async def test_idle_connections_that_redis_closes_are_replaced(
    client: RedisClient, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def has_lasted() -> bool:
        return client._connection is not None and client._connection.answers >= 2  # of probes

    for _ in range(3):
        await eventually(has_lasted)
        await redis_server.drop_connections()
        answers = await asyncio.gather(*(get(client, seconds=0.9) for _ in range(10)))
        assert answers == [None] * 10
    assert messages(caplog) == []


@pytest.mark.usefixtures("quick")
async def test_connections_that_end_early_are_replaced_at_intervals(proxy: TcpProxy) -> None:
    async with running(proxy.url) as client:
        began = monotonic()
        for _ in range(4):
            await get(client)
            for end in list(proxy.ends):
                end.transport.abort()
        await get(client)
    assert monotonic() - began >= 4 * 0.1


async def test_commands_in_flight_on_a_lost_connection_are_sent_again(
    redis_server: RedisServer, proxy: TcpProxy, caplog: pytest.LogCaptureFixture
) -> None:
    await redis_server.execute("SET", "greeting", "hello")
    async with running(proxy.url) as client:
        await reaches(client, RedisState.UP)
        proxy.is_stalled = True
        pending = [asyncio.create_task(get(client)) for _ in range(10)]
        for _ in range(5):
            await asyncio.sleep(0)  # by now they are sent, and the proxy has read them
        proxy.is_stalled = False
        for end in list(proxy.ends):
            end.transport.abort()
        assert await asyncio.gather(*pending) == [b"hello"] * 10
    assert messages(caplog) == []


async def test_command_waits_no_longer_than_its_limit_for_a_new_connection(
    proxy: TcpProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(proxy.url) as client:
        await reaches(client, RedisState.UP)
        proxy.is_stalled = True
        for end in list(proxy.ends):
            end.transport.abort()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await get(client, seconds=0.1)
    assert messages(caplog) == []


async def test_stopping_closes_every_connection(redis_server: RedisServer) -> None:
    async with running(redis_server.url) as client:
        await get(client)
        redis_server.suspend()
        pending = asyncio.create_task(get(client, seconds=0.5))
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await pending
    redis_server.resume()

    async def is_alone() -> bool:
        return (await redis_server.execute("CLIENT", "LIST")).count("\n") == 0

    await eventually(is_alone)


# --- outages ------------------------------------------------------------------------------------


async def test_refused_connection_is_an_outage_at_once(
    client: RedisClient, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await redis_server.stop()
    for _ in range(3):
        with pytest.raises(RedisDown):
            await get(client)
    assert client.state.name == "DOWN"
    await redis_server.start()
    await reaches(client, RedisState.UP)
    assert await get(client) is None
    assert messages(caplog) == ["Redis is down: ConnectionRefusedError", "Redis is up again"]


@pytest.mark.usefixtures("quick")
async def test_silence_is_an_outage_until_it_ends(
    proxy: TcpProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(proxy.url) as client:
        await reaches(client, RedisState.UP)
        proxy.is_stalled = True
        pending = asyncio.create_task(get(client, seconds=30))
        await reaches(client, RedisState.DOWN)
        with pytest.raises(RedisDown):
            await pending
        with pytest.raises(RedisDown):
            await get(client)
        proxy.is_stalled = False
        await reaches(client, RedisState.UP)
        assert await get(client) is None
    assert messages(caplog) == ["Redis is down: TimeoutError", "Redis is up again"]


async def test_redis_that_is_silent_from_the_start_is_not_known_to_be_up(
    redis_server: RedisServer,
) -> None:
    redis_server.suspend()
    async with running(redis_server.url) as client:
        with pytest.raises(RedisDown):
            await get(client, seconds=0.1)
        assert client.state.name == "UNKNOWN"
    redis_server.resume()


@pytest.mark.parametrize(
    "greeting",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"%1\r\n+proto\r\n:2\r\n", b"+OK\r\n"],
)
async def test_server_of_another_protocol_is_down(
    greeting: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    address = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, running(address) as client:
        await reaches(client, RedisState.DOWN)
    (record,) = caplog.records
    assert record.getMessage().startswith("Redis is down: ")


async def test_rejected_credentials_are_a_state_of_their_own(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await redis_server.set_password("secret")
    async with running(redis_server.url) as client:
        await reaches(client, RedisState.REJECTED)
        assert not started(client)
        with pytest.raises(RedisDown):
            await get(client)
        await redis_server.set_password("")
        await reaches(client, RedisState.UP)
        assert started(client)
        await redis_server.execute("ACL", "SETUSER", "default", "-mget")
        await reaches(client, RedisState.REJECTED)
        assert started(client)
    assert messages(caplog) == [
        "Redis rejects the credentials of REDIS_URL: NOAUTH",
        "Redis is up again",
        "Redis rejects the credentials of REDIS_URL: NOPERM",
    ]


async def test_check_runs_the_probes_once_and_logs_a_change_once(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = RedisClient(redis_server.url)
    client.probes.append(read)
    await client.check()
    states = [client.state]
    await redis_server.execute("ACL", "SETUSER", "default", "-mget")
    await client.check()
    states.append(client.state)
    await redis_server.stop()
    for _ in range(2):
        await client.check()
        states.append(client.state)
    assert [state.name for state in states] == ["UP", "REJECTED", "DOWN", "DOWN"]
    assert messages(caplog) == [
        "Redis rejects the credentials of REDIS_URL: NOPERM",
        "Redis is down: ConnectionRefusedError",
    ]


async def test_commands_are_sent_while_others_keep_arriving(client: RedisClient) -> None:
    """A process that is never idle must still send its commands."""
    answered = 0

    async def send() -> None:
        nonlocal answered
        await get(client)
        answered += 1

    async with asyncio.timeout(20):
        tasks = []
        while answered < 100:
            tasks.append(asyncio.create_task(send()))
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)

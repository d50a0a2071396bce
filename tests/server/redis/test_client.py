"""The connection to Redis: answers, silence, refusals, and how it comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from server.redis.client import RedisClient, RedisUnavailable
from tests.issuer import eventually
from tests.redis_server import RedisServer

pytestmark = pytest.mark.redis


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[RedisClient]:
    link = RedisClient(redis_server.url, timeout=0.2)
    yield link
    await link.close()


async def get(link: RedisClient, name: str = "greeting") -> object:
    return await link.ask(lambda: link.client.get(name))


async def is_found_up(link: RedisClient) -> bool:
    await link.probe()
    return link.is_up


@asynccontextmanager
async def in_the_background(link: RedisClient) -> AsyncIterator[None]:
    task = asyncio.create_task(link.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_question_is_answered(link: RedisClient, redis_server: RedisServer) -> None:
    await redis_server.client.set("greeting", "hello")
    assert await get(link) == b"hello"
    assert link.is_up


async def test_a_redis_that_went_is_told_and_not_asked_again(
    link: RedisClient, redis_server: RedisServer
) -> None:
    await redis_server.stop()
    with pytest.raises(RedisUnavailable):
        await get(link)
    assert not link.is_up
    await redis_server.start()
    with pytest.raises(RedisUnavailable):
        await get(link)
    assert await is_found_up(link)
    assert await get(link) is None


async def test_a_redis_that_accepts_and_never_answers_is_left_in_time(
    link: RedisClient, redis_server: RedisServer
) -> None:
    redis_server.pause()
    start = monotonic()
    answers = await asyncio.gather(*(get(link) for _ in range(100)), return_exceptions=True)
    assert monotonic() - start < 2
    assert {type(answer) for answer in answers} == {RedisUnavailable}
    assert not link.is_up
    assert not await is_found_up(link)
    redis_server.resume()
    assert await is_found_up(link)
    assert await asyncio.gather(*(get(link) for _ in range(100))) == [None] * 100


async def test_ending_while_redis_is_silent_takes_no_longer_than_a_few_questions(
    link: RedisClient, redis_server: RedisServer
) -> None:
    redis_server.pause()
    await asyncio.gather(*(get(link) for _ in range(10)), return_exceptions=True)
    start = monotonic()
    await link.close()
    assert monotonic() - start < 2


async def test_a_time_out_in_the_address_does_not_take_the_place_of_ours(
    redis_server: RedisServer,
) -> None:
    link = RedisClient(f"{redis_server.url}?socket_timeout=60&timeout=60", timeout=0.1)
    redis_server.pause()
    start = monotonic()
    with pytest.raises(RedisUnavailable):
        await get(link)
    assert monotonic() - start < 1
    await link.close()


async def test_a_request_that_leaves_in_the_middle_leaves_no_answer_to_the_next(
    redis_server: RedisServer,
) -> None:
    link = RedisClient(f"{redis_server.url}?max_connections=1", timeout=5)

    async def waits_for_redis() -> bool:
        """Tell that the question was sent: redis-py reads."""
        readers: list[Any] = [each._reader for each in link.pool._in_use_connections]
        return any(reader._waiter for reader in readers)

    await redis_server.client.mset({"mine": "secret", "yours": "plain"})
    assert await get(link, "yours") == b"plain"
    redis_server.pause()
    leaves = asyncio.create_task(get(link, "mine"))
    await eventually(waits_for_redis)
    leaves.cancel()
    await asyncio.gather(leaves, return_exceptions=True)
    redis_server.resume()
    assert [await get(link, "yours") for _ in range(3)] == [b"plain"] * 3
    await link.close()


async def test_a_connection_that_redis_closed_while_idle_costs_nobody_an_answer(
    link: RedisClient, redis_server: RedisServer
) -> None:
    await asyncio.gather(*(get(link) for _ in range(10)))
    await redis_server.client.client_kill_filter(_type="normal", skipme=True)
    assert await asyncio.gather(*(get(link) for _ in range(10))) == [None] * 10


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 99])
async def test_a_server_of_another_kind_is_no_redis(greeting: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    link = RedisClient(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=0.5)
    async with server:
        with pytest.raises(RedisUnavailable):
            await get(link)
        await link.close()
    assert not link.is_up


async def test_a_refusal_is_told_once_and_is_not_taken_for_silence(
    link: RedisClient, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await redis_server.client.config_set("maxmemory", "1")
    for _ in range(3):
        with pytest.raises(RedisUnavailable):
            await link.ask(lambda: link.client.set("greeting", "hello"))
    assert await get(link) is None
    assert caplog.messages == ["Redis refuses what it is asked: OutOfMemoryError"]


async def test_a_refusal_that_comes_back_much_later_is_told_again(
    link: RedisClient,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.redis.client._REFUSAL_SECONDS", 0)
    await redis_server.client.config_set("maxmemory", "1")
    for _ in range(2):
        with pytest.raises(RedisUnavailable):
            await link.ask(lambda: link.client.set("greeting", "hello"))
    assert caplog.messages == ["Redis refuses what it is asked: OutOfMemoryError"] * 2


async def test_a_redis_that_refuses_what_requests_ask_of_it_counts_as_gone(
    link: RedisClient, redis_server: RedisServer
) -> None:
    await redis_server.client.acl_setuser("default", enabled=True, commands=["-mget"])
    assert not await is_found_up(link)


async def test_it_comes_back_by_itself_and_says_so_in_a_line(
    link: RedisClient, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def is_up() -> bool:
        return link.is_up

    async def is_down() -> bool:
        return not link.is_up

    caplog.set_level("INFO", "server.redis.client")
    async with in_the_background(link):
        await redis_server.stop()
        await eventually(is_down)
        with pytest.raises(RedisUnavailable):
            await get(link)
        await redis_server.start()
        await eventually(is_up)
    assert caplog.messages == ["Redis does not answer: ConnectionError", "Redis answers again"]


async def test_ending_closes_every_connection(link: RedisClient, redis_server: RedisServer) -> None:
    async def is_alone() -> bool:
        return len(await redis_server.client.client_list()) == 1

    async with in_the_background(link):
        await asyncio.gather(*(get(link) for _ in range(10)))
    await eventually(is_alone)

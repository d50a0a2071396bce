"""Replays of DPoP proofs: in the process, in Redis, and while Redis is down."""

import asyncio

import pytest

from middlewares.errors import ApiError, ErrorCode
from rig.redis_server import RedisServer
from server.policies.replays import MAX_REMEMBERED, InMemoryReplays, RedisReplays
from server.redis.client import RedisClient, RedisState
from tests.conftest import Serve
from tests.dpop import ACCEPT, App
from tests.server.redis.support import Clock, reaches, running

APP = App()
OUTAGE = "The list of used DPoP proofs is not available; try again"


async def test_a_proof_is_new_once_in_120_seconds() -> None:
    clock = Clock()
    replays = InMemoryReplays(clock=clock)
    assert await replays.use("a", "key")
    clock.now += 120
    assert not await replays.use("a", "key")
    clock.now += 0.1
    assert await replays.use("a", "key")


async def test_each_key_has_its_own_proofs() -> None:
    replays = InMemoryReplays()
    assert await replays.use("a", "one")
    assert await replays.use("a", "two")
    assert not await replays.use("a", "one")


async def test_a_full_memory_is_unavailable_until_proofs_expire() -> None:
    assert MAX_REMEMBERED == 100_000
    clock = Clock()
    replays = InMemoryReplays(clock=clock, max_remembered=2)
    assert await replays.use("a", "key")
    clock.now += 60
    assert await replays.use("b", "key")
    with pytest.raises(ApiError) as caught:
        await replays.use("c", "key")
    assert caught.value.code is ErrorCode.AUTH_UNAVAILABLE
    assert caught.value.headers == {"Retry-After": "1"}
    assert not await replays.use("a", "key")  # a replay is still recognized
    clock.now += 60.1
    assert await replays.use("c", "key")


async def test_one_of_many_at_once_is_new() -> None:
    replays = InMemoryReplays()
    assert sum(await asyncio.gather(*(replays.use("a", "key") for _ in range(50)))) == 1


# --- Redis --------------------------------------------------------------------------------------


@pytest.mark.redis
async def test_redis_has_a_hash_that_expires(redis_server: RedisServer) -> None:
    async with running(redis_server.url) as client:
        await reaches(client, RedisState.UP)
        replays = RedisReplays(client, seconds=5, fallback=None)
        used = await asyncio.gather(*(replays.use("the-jti", "key") for _ in range(20)))
        assert sum(used) == 1
    (key,) = (await redis_server.execute("KEYS", "*:dpop:*")).splitlines()
    assert key.startswith("{vapi-sessions}:dpop:")
    assert "the-jti" not in key
    assert 110 < int(await redis_server.execute("TTL", key)) <= 120


class LostAnswers:
    """A client whose connection is lost after each SET, so that the command is sent again."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def execute(self, command: bytes, *arguments: bytes | int, seconds: float) -> object:
        if command == b"SET":
            await self._client.execute(command, *arguments, seconds=seconds)
        return await self._client.execute(command, *arguments, seconds=seconds)


@pytest.mark.redis
async def test_a_command_that_was_sent_again_is_no_replay(redis_server: RedisServer) -> None:
    async with running(redis_server.url) as client:
        await reaches(client, RedisState.UP)
        lost: object = LostAnswers(client)
        replays = RedisReplays(lost, seconds=5, fallback=None)  # type: ignore[arg-type]  # a stub
        assert await replays.use("a", "key")
        assert not await replays.use("a", "key")


@pytest.mark.redis
@pytest.mark.parametrize("mode", ["refuse", "serve"])
async def test_without_redis(serve: Serve, redis_server: RedisServer, mode: str) -> None:
    service = await serve(**ACCEPT, REDIS_URL=redis_server.url, REDIS_FAILURE=mode)
    token = APP.token()
    assert (await service.start(headers=APP.headers(token))).status == 200
    await redis_server.stop()
    headers = APP.headers(token)
    answers = [await service.start(headers=headers) for _ in range(2)]
    codes = [answer.code for answer in answers]
    if mode == "serve":  # remembered in the process
        assert codes == [None, "AUTH_TOKEN_INVALID"]
    else:
        assert codes == ["AUTH_UNAVAILABLE"] * 2
        assert [answer.details for answer in answers] == [OUTAGE] * 2
        assert "Retry-After" in answers[0].response.headers


@pytest.mark.redis
async def test_a_proof_is_accepted_by_one_of_two_services(
    serve: Serve, redis_server: RedisServer
) -> None:
    one, two = [await serve(**ACCEPT, REDIS_URL=redis_server.url) for _ in range(2)]
    token = APP.token()
    for first, second in ((one, two), (two, one)):
        headers = APP.headers(token)
        answers = [await each.start(headers=headers) for each in (first, second, first)]
        assert [answer.status for answer in answers] == [200, 401, 401]

"""Deployments that share a database of Redis: `check` warns."""

import asyncio

import pytest

from rig.redis_server import RedisServer
from rig.service import make_settings
from rig.waiting import eventually
from server.cli.check import examine
from server.policies.deployments import DEPLOYMENTS_KEY, find_other_deployments, keep_registered
from tests.conftest import Serve
from tests.server.redis.support import running

NORTH = {"VAPI_ORG_ID": "north"}
SOUTH = {"VAPI_ORG_ID": "south"}


async def others(url: str, **variables: str) -> list[str]:
    return await find_other_deployments(make_settings(REDIS_URL=url, **variables))


@pytest.mark.redis
async def test_check_warns_of_a_running_service_of_another_clinic(
    serve: Serve, redis_server: RedisServer
) -> None:
    url = redis_server.url

    async def is_registered() -> bool:
        return await redis_server.execute("EXISTS", DEPLOYMENTS_KEY) == "1"

    await serve(**NORTH, REDIS_URL=url)
    await eventually(is_registered)
    assert await others(url, **NORTH) == []
    assert await others(f"{url}/1", **SOUTH) == []
    _, warnings = await examine(make_settings(REDIS_URL=url, PORT="1", **SOUTH))
    start = "REDIS_URL: a deployment with another"
    assert any(warning.startswith(start) for warning in warnings)


@pytest.mark.redis
@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ({"JWT_ISSUER": "https://a.test/"}, {"JWT_ISSUER": "https://b.test/"}, 1),
        (
            {"VAPI_ORG_ID": "", "VAPI_ASSISTANT_ID": "a"},
            {"VAPI_ORG_ID": "", "VAPI_ASSISTANT_ID": "b"},
            1,
        ),
        ({"VAPI_ASSISTANT_ID": "a"}, {"VAPI_ASSISTANT_ID": "b"}, 0),
    ],
)
async def test_what_tells_deployments_apart(
    redis_server: RedisServer, one: dict[str, str], other: dict[str, str], count: int
) -> None:
    assert await others(redis_server.url, **one) == []
    assert len(await others(redis_server.url, **other)) == count


@pytest.mark.redis
async def test_an_entry_expires(redis_server: RedisServer) -> None:
    await redis_server.execute("ZADD", DEPLOYMENTS_KEY, "1", "forgotten")
    assert await others(redis_server.url) == []
    assert await redis_server.execute("ZCARD", DEPLOYMENTS_KEY) == "1"


@pytest.mark.redis
async def test_an_outage_delays_the_registration(redis_server: RedisServer) -> None:
    await redis_server.stop()
    assert await others(redis_server.url) == []
    settings = make_settings(REDIS_URL=redis_server.url)
    async with running(redis_server.url) as client:
        task = asyncio.create_task(keep_registered(settings, client.execute, retry_seconds=0.01))
        await redis_server.start()

        async def is_registered() -> bool:
            return await redis_server.execute("EXISTS", DEPLOYMENTS_KEY) == "1"

        await eventually(is_registered)
        task.cancel()

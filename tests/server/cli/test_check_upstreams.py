"""`python -m server check`: what it says of the keys and of Redis."""

import pytest

from server.cli.check import Finding, examine
from tests.issuer import issuing, key
from tests.redis_server import RedisServer
from tests.support import make_settings


async def finding(part: str, **variables: str) -> Finding:
    (found,) = [each for each in await examine(make_settings(**variables)) if each.part == part]
    return found


async def test_keys_that_stand_in_the_configuration_need_nobody() -> None:
    assert (await finding("keys")).ok


async def test_a_jwks_with_a_usable_key_holds() -> None:
    async with issuing() as issuer:
        assert (await finding("keys", **issuer.variables)).ok


async def test_a_jwks_without_one_does_not_and_the_advice_names_where_to_look() -> None:
    async with issuing(key("rsa", "RS256")) as issuer:
        found = await finding("keys", **{**issuer.variables, "JWT_ALGORITHMS": "ES256"})
    assert not found.ok
    assert "JWT_JWKS_URL" in found.details
    assert "JWT_ALGORITHMS" in found.details


async def test_a_jwks_that_is_not_there_does_not_hold() -> None:
    async with issuing() as issuer:
        await issuer.go_down()
        assert not (await finding("keys", **issuer.variables)).ok


async def test_doing_without_redis_is_no_fault() -> None:
    found = await finding("redis")
    assert found.ok
    assert "nothing can be revoked" in found.details


@pytest.mark.redis
async def test_a_redis_that_answers_holds(redis_server: RedisServer) -> None:
    assert await finding("redis", REDIS_URL=redis_server.url) == Finding("redis", True, "answers")


@pytest.mark.redis
async def test_a_redis_that_is_gone_does_not(redis_server: RedisServer) -> None:
    await redis_server.stop()
    found = await finding("redis", REDIS_URL=redis_server.url)
    assert not found.ok
    assert "REDIS_URL" in found.details


@pytest.mark.redis
async def test_nor_does_one_that_will_not_tell_who_is_revoked(redis_server: RedisServer) -> None:
    await redis_server.client.acl_setuser("default", enabled=True, commands=["-mget"])
    assert not (await finding("redis", REDIS_URL=redis_server.url)).ok

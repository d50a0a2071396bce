"""Access that ends before its token does: by token and by patient, on every process."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from middlewares.api_errors import ApiError
from middlewares.request_context import Principal
from server.redis.client import RedisClient
from server.redis.revocation_list import (
    make_revocation_check,
    patient_key,
    revoke_in,
    token_key,
)
from tests.conftest import Serve
from tests.issuer import eventually
from tests.redis_server import RedisServer
from tests.support import Service, claims, sign

pytestmark = pytest.mark.redis

HOUR = 3600


def caller(token_id: str | None = None, patient_id: str | None = None) -> Principal:
    return Principal(
        patient_id=patient_id,
        roles=frozenset({"patient"}),
        scopes=frozenset(),
        token_id=token_id,
        valid_from=0,
        expires_at=0,
    )


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[RedisClient]:
    link = RedisClient(redis_server.url, timeout=0.5)
    yield link
    await link.close()


@pytest.fixture
async def service(serve: Serve, redis_server: RedisServer) -> Service:
    return await serve(REDIS_URL=redis_server.url)


async def code(service: Service, **more: object) -> str | None:
    return (await service.start(sign(claims(**more)))).code


# --- who is refused -----------------------------------------------------------------------------


async def test_a_revoked_token_is_refused_and_the_patients_other_tokens_are_not(
    service: Service, redis_server: RedisServer
) -> None:
    assert await code(service, jti="t1") is None
    assert await revoke_in(redis_server.url, token_key("t1"), HOUR)
    answer = await service.start(sign(claims(jti="t1")))
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_REVOKED")
    assert 'error="invalid_token"' in answer.response.headers["WWW-Authenticate"]
    assert await code(service, jti="t2") is None
    assert await code(service) is None


async def test_every_token_of_a_revoked_patient_is_refused_and_nobody_elses(
    service: Service, redis_server: RedisServer
) -> None:
    assert await revoke_in(redis_server.url, patient_key("pt_1"), HOUR)
    assert await code(service) == "AUTH_TOKEN_REVOKED"
    assert await code(service, jti="t2") == "AUTH_TOKEN_REVOKED"
    assert await code(service, id="pt_2") is None


async def test_a_patient_id_that_is_a_number_is_revoked_by_its_digits(
    service: Service, redis_server: RedisServer
) -> None:
    assert await revoke_in(redis_server.url, patient_key("4711"), HOUR)
    assert await code(service, id=4711) == "AUTH_TOKEN_REVOKED"


async def test_whoever_is_revoked_learns_nothing_of_role_or_limit(
    service: Service, redis_server: RedisServer
) -> None:
    assert await revoke_in(redis_server.url, token_key("t1"), HOUR)
    assert await code(service, jti="t1", type="doctor") == "AUTH_TOKEN_REVOKED"


@pytest.mark.parametrize("token_id", ["", "a b:c\r\n*", "ü☎", "\ud800", "x" * 4000, "0"])
async def test_any_text_may_be_a_token_id(link: RedisClient, token_id: str) -> None:
    is_revoked = make_revocation_check(link, serve_without=False, on_failure=pytest.fail)
    assert not await is_revoked(caller(token_id))
    await link.client.set(token_key(token_id), b"1")
    assert await is_revoked(caller(token_id))


def test_no_two_token_ids_share_an_entry() -> None:
    ids = ["", "?", "\ud800", "\udfff", "\ufffd", "ü", "u\u0308", " ", "\x00"]
    assert len({token_key(each) for each in ids}) == len(ids)


async def test_a_token_id_cannot_name_a_patient(link: RedisClient) -> None:
    is_revoked = make_revocation_check(link, serve_without=False, on_failure=pytest.fail)
    await link.client.set(token_key("pt_1"), b"1")
    assert not await is_revoked(caller("t1", "pt_1"))
    assert not await is_revoked(caller("patient:pt_1"))


async def test_an_entry_counts_whatever_it_holds(link: RedisClient) -> None:
    is_revoked = make_revocation_check(link, serve_without=False, on_failure=pytest.fail)
    await link.client.set(patient_key("pt_1"), b"")
    assert await is_revoked(caller("t1", "pt_1"))


# --- what it costs, and how long it lasts ---------------------------------------------------------


async def test_a_request_costs_one_round_trip(link: RedisClient) -> None:
    is_revoked = make_revocation_check(link, serve_without=False, on_failure=pytest.fail)
    await is_revoked(caller("t1", "pt_1"))
    await link.client.config_resetstat()
    for _ in range(5):
        await is_revoked(caller("t1", "pt_1"))
    counts = await link.client.info("commandstats")
    asked = {
        name: row["calls"] for name, row in counts.items() if name != "cmdstat_config|resetstat"
    }
    assert asked == {"cmdstat_mget": 5}


async def test_a_caller_without_any_id_costs_none(redis_server: RedisServer) -> None:
    await redis_server.stop()
    link = RedisClient(redis_server.url, timeout=0.5)
    is_revoked = make_revocation_check(link, serve_without=False, on_failure=pytest.fail)
    assert not await is_revoked(caller())


async def test_an_entry_leaves_by_itself(service: Service, redis_server: RedisServer) -> None:
    assert await revoke_in(redis_server.url, patient_key("pt_1"), HOUR)
    (entry,) = await redis_server.client.keys("*revoked*")
    assert HOUR - 60 < await redis_server.client.ttl(entry) <= HOUR
    assert await code(service) == "AUTH_TOKEN_REVOKED"
    await redis_server.client.pexpire(entry, 1)

    async def is_granted() -> bool:
        return await code(service) is None

    await eventually(is_granted)
    assert not await redis_server.client.exists(entry)


# --- while Redis is gone --------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["stopped", "paused"])
async def test_while_redis_is_gone_requests_are_refused_in_time_until_it_is_back(
    service: Service, redis_server: RedisServer, gone: str
) -> None:
    assert await code(service) is None
    await (redis_server.stop() if gone == "stopped" else asyncio.to_thread(redis_server.suspend))
    answers = await asyncio.gather(*(service.start(sign()) for _ in range(50)))
    assert {(answer.status, answer.code) for answer in answers} == {(503, "AUTH_UNAVAILABLE")}
    assert {answer.response.headers["Retry-After"] for answer in answers} == {"1"}
    ready = await service.ask("GET", "/readyz")
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    assert ready.json["parts"]["redis"] == "down"
    if gone == "stopped":
        await redis_server.start()
    else:
        redis_server.resume()

    async def is_granted() -> bool:
        return await code(service) is None

    await eventually(is_granted)
    assert (await service.ask("GET", "/readyz")).json["parts"]["redis"] == "up"


@pytest.mark.parametrize("gone", ["stopped", "paused"])
async def test_with_serve_they_are_granted_in_time_and_the_limit_is_kept_in_the_process(
    serve: Serve, redis_server: RedisServer, gone: str
) -> None:
    service = await serve(
        REDIS_URL=redis_server.url,
        REDIS_FAILURE="serve",
        RATE_LIMIT="2/hour",
        METRICS_ENABLED="true",
    )
    assert await revoke_in(redis_server.url, patient_key("pt_2"), HOUR)
    assert await code(service, id="pt_2") == "AUTH_TOKEN_REVOKED"
    await (redis_server.stop() if gone == "stopped" else asyncio.to_thread(redis_server.suspend))
    assert [await code(service) for _ in range(3)] == [None, None, "RATE_LIMITED"]
    assert await code(service, id="pt_2") is None
    assert (await service.ask("GET", "/readyz")).json["status"] == "degraded"
    metrics = (await service.ask("GET", "/metrics")).body.decode()
    assert "vapi_sessions_limiter_failures_total 4.0" in metrics
    assert "vapi_sessions_revocation_failures_total 4.0" in metrics


async def test_a_redis_that_is_down_at_start_is_got_over(
    serve: Serve, redis_server: RedisServer
) -> None:
    await redis_server.stop()
    service = await serve(REDIS_URL=redis_server.url)
    assert await code(service) == "AUTH_UNAVAILABLE"
    await redis_server.start()

    async def is_granted() -> bool:
        return await code(service) is None

    await eventually(is_granted)


async def test_a_redis_that_is_full_still_tells_who_is_revoked(
    serve: Serve, redis_server: RedisServer
) -> None:
    service = await serve(REDIS_URL=redis_server.url, RATE_LIMIT="2/hour")
    assert await revoke_in(redis_server.url, patient_key("pt_2"), HOUR)
    await redis_server.client.config_set("maxmemory", "1")
    assert not await revoke_in(redis_server.url, patient_key("pt_1"), HOUR)
    assert await code(service, id="pt_2") == "AUTH_TOKEN_REVOKED"
    assert [await code(service) for _ in range(3)] == [None, None, "RATE_LIMITED"]


async def test_a_list_that_may_not_be_read_refuses_everybody(link: RedisClient) -> None:
    failures: list[bool] = []
    is_revoked = make_revocation_check(
        link, serve_without=False, on_failure=lambda: failures.append(True)
    )
    await link.client.acl_setuser("default", enabled=True, commands=["-mget"])
    with pytest.raises(ApiError, match="AUTH_UNAVAILABLE"):
        await is_revoked(caller("t1", "pt_1"))
    assert failures == [True]


# --- limits that processes share -----------------------------------------------------------------


async def test_services_with_one_redis_share_the_limit(
    serve: Serve, redis_server: RedisServer
) -> None:
    first = await serve(REDIS_URL=redis_server.url, RATE_LIMIT="3/hour")
    second = await serve(REDIS_URL=redis_server.url, RATE_LIMIT="3/hour")
    codes = [await code(each) for each in (first, second, first, second, first)]
    assert codes == [None, None, None, "RATE_LIMITED", "RATE_LIMITED"]
    answer = await second.start(sign())
    assert 3500 < int(answer.response.headers["Retry-After"]) <= 3600
    assert await code(first, id="pt_2") is None

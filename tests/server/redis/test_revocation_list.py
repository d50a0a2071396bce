"""Revocation by token and by patient: in every process, with and without Redis."""

import asyncio
from typing import Any

import pytest

from middlewares.context import Principal
from middlewares.errors import ApiError
from rig.redis_server import RedisServer
from rig.service import Service, claims, sign
from rig.tcp_proxy import TcpProxy
from server.policies.revocations import RecentRevocations, RevocationList
from server.redis.client import RedisClient
from tests.conftest import Serve
from tests.revocation_keys import patient_key, token_key
from tests.server.redis.support import Clock, code, metric, reports

pytestmark = pytest.mark.redis

SERVE = {"REDIS_FAILURE": "serve", "METRICS_ENABLED": "true"}


def caller(token_id: str | None = None, patient_id: str | None = None) -> Principal:
    return Principal(
        patient_id=patient_id,
        roles=frozenset({"patient"}),
        scopes=frozenset(),
        token_id=token_id,
        valid_from=0,
        expires_at=0,
    )


def make_list(redis: RedisClient, **options: Any) -> RevocationList:
    defaults: dict[str, Any] = {
        "seconds": 5,
        "serve_without": False,
        "record_pause": lambda _: None,
        "on_failure": pytest.fail,
        "is_counted": lambda principal: principal.patient_id is not None,
    }
    return RevocationList(redis, **{**defaults, **options})


@pytest.fixture
async def service(serve: Serve, redis_server: RedisServer) -> Service:
    return await serve(REDIS_URL=redis_server.url)


# --- which callers are rejected -----------------------------------------------------------------


async def test_revoked_token_is_rejected_and_other_tokens_of_the_patient_are_not(
    service: Service, redis_server: RedisServer
) -> None:
    assert await code(service, jti="t1") is None
    await redis_server.execute("SET", token_key("t1"), "1")
    answer = await service.start(sign(claims(jti="t1")))
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_REVOKED")
    assert 'error="invalid_token"' in answer.response.headers["WWW-Authenticate"]
    assert await code(service, jti="t2") is None
    assert await code(service) is None


async def test_every_token_of_a_revoked_patient_is_rejected(
    service: Service, redis_server: RedisServer
) -> None:
    await redis_server.execute("MSET", patient_key("pt_1"), "1", patient_key("4711"), "1")
    assert await code(service) == "AUTH_TOKEN_REVOKED"
    assert await code(service, jti="t2") == "AUTH_TOKEN_REVOKED"
    assert await code(service, id=4711) == "AUTH_TOKEN_REVOKED"
    assert await code(service, id="pt_2") is None


async def test_any_text_can_be_a_token_id(client: RedisClient, redis_server: RedisServer) -> None:
    revocations = make_list(client)
    odd = [
        "",
        "?",
        "\ud800",
        "\udfff",
        "\ufffd",
        "ü",
        "u\u0308",
        " ",
        "\x00",
        "a:\r\n*",
        "}{x}",
        "x" * 4000,
    ]
    for token_id in odd:
        assert not await revocations.is_revoked(caller(token_id))
        await redis_server.execute("SET", token_key(token_id), "")
        assert await revocations.is_revoked(caller(token_id))


async def test_token_id_cannot_name_a_patient(
    client: RedisClient, redis_server: RedisServer
) -> None:
    revocations = make_list(client)
    await redis_server.execute("SET", token_key("pt_1"), "1")
    assert not await revocations.is_revoked(caller("t1", "pt_1"))
    assert not await revocations.is_revoked(caller("patient:pt_1"))


# --- cost and life time -------------------------------------------------------------------------


async def test_lookup_sends_one_command(client: RedisClient, redis_server: RedisServer) -> None:
    revocations = make_list(client)
    client.probes.clear()
    await revocations.is_revoked(caller("t1", "pt_1"))
    await redis_server.execute("CONFIG", "RESETSTAT")
    for principal in (caller("t1", "pt_1"), caller("t1"), caller(None, "pt_1"), caller()):
        assert not await revocations.is_revoked(principal)
    stats = (await redis_server.execute("INFO", "commandstats")).splitlines()
    calls = [line.partition(",")[0] for line in stats if line.startswith("cmdstat_")]
    assert sorted(calls) == ["cmdstat_config|resetstat:calls=1", "cmdstat_mget:calls=4"]


# --- without Redis ------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("outage", ["stopped", "suspended"])
async def test_requests_are_rejected_until_redis_is_up_again(
    service: Service, redis_server: RedisServer, outage: str
) -> None:
    assert await code(service) is None
    if outage == "stopped":
        await redis_server.stop()
    else:
        redis_server.suspend()
    for _ in range(2):  # before and after the silence is noticed
        answers = await asyncio.gather(*(service.start(sign()) for _ in range(50)))
        assert {(answer.status, answer.code) for answer in answers} == {(503, "AUTH_UNAVAILABLE")}
        assert {answer.response.headers["Retry-After"] for answer in answers} == {"1"}
        await reports(service, "down")
    ready = await service.ask("GET", "/readyz")
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    if outage == "stopped":
        await redis_server.start()
    else:
        redis_server.resume()
    await reports(service, "up")
    assert await code(service, id="pt_2") is None


async def test_redis_that_is_down_at_the_start_is_used_when_it_is_up(
    serve: Serve, redis_server: RedisServer
) -> None:
    await redis_server.stop()
    service = await serve(REDIS_URL=redis_server.url)
    assert await code(service) == "AUTH_UNAVAILABLE"
    await redis_server.start()
    await reports(service, "up")
    assert await code(service) is None


@pytest.mark.usefixtures("quick")
async def test_serve_skips_revocation_and_honours_what_was_seen(
    serve: Serve, redis_server: RedisServer
) -> None:
    service = await serve(REDIS_URL=redis_server.url, RATE_LIMIT="2/hour", **SERVE)
    for patient in ("pt_2", "pt_3", "pt_4"):
        await redis_server.execute("SET", patient_key(patient), "1")
    for patient in ("pt_2", "pt_3"):
        assert await code(service, id=patient) == "AUTH_TOKEN_REVOKED"
    await redis_server.execute("DEL", patient_key("pt_3"))
    assert await code(service, id="pt_3") is None
    await redis_server.stop()
    await reports(service, "down")
    assert await code(service, id="pt_2") == "AUTH_TOKEN_REVOKED"  # seen
    assert await code(service, id="pt_3") is None  # no longer revoked when last seen
    assert await code(service, id="pt_4") is None  # never seen
    assert [await code(service) for _ in range(3)] == [None, None, "RATE_LIMITED"]
    assert await metric(service, "limiter_failures_total") == 5
    assert await metric(service, "revocation_failures_total") == 6
    assert await metric(service, "redis_up") == 0


async def test_refuse_honours_what_was_seen_too(
    service: Service, redis_server: RedisServer
) -> None:
    await redis_server.execute("SET", patient_key("pt_2"), "1")
    assert await code(service, id="pt_2") == "AUTH_TOKEN_REVOKED"
    await redis_server.stop()
    assert await code(service, id="pt_2") == "AUTH_TOKEN_REVOKED"
    assert await code(service) == "AUTH_UNAVAILABLE"


def test_revocations_are_remembered_for_a_minute() -> None:
    clock = Clock()
    recent = RecentRevocations(clock=clock)
    assert recent.record([b"a", b"b"], [None, b"1"])
    clock.now += 30
    assert recent.record([b"a"], [b"1"])
    clock.now += 29.9
    assert [recent.include([key]) for key in (b"a", b"b", b"c")] == [True, True, False]
    clock.now += 0.1
    assert [recent.include([key]) for key in (b"a", b"b")] == [True, False]
    assert recent.include([b"b", b"a"])
    assert recent.record([b"a"], [None]) is False
    assert not recent.include([b"a"])


def test_oldest_revocations_are_dropped_beyond_the_maximum() -> None:
    clock = Clock()
    recent = RecentRevocations(clock=clock, max_entries=3)
    for number in range(10):
        recent.record([b"%d" % number], [b"1"])
    assert [recent.include([b"%d" % number]) for number in range(6, 10)] == [False, *[True] * 3]
    clock.now += 60
    recent.record([b"x"], [b"1"])
    assert list(recent._seen) == [b"x"]


# --- a slow Redis, and one that answers with errors ----------------------------------------------


@pytest.mark.parametrize("mode", ["refuse", "serve"])
async def test_late_lookup_rejects_the_request_and_is_not_an_outage(
    serve: Serve, proxy: TcpProxy, mode: str
) -> None:
    proxy.delay = 0.15
    budget = {"SESSION_BUDGET_SECONDS": "0.5", "VAPI_TIMEOUT_SECONDS": "0.1"}
    service = await serve(REDIS_URL=proxy.url, REDIS_FAILURE=mode, **budget)
    await reports(service, "up")
    answer = await service.start(sign())
    assert (answer.status, answer.code) == (503, "AUTH_UNAVAILABLE")
    assert answer.response.headers["Retry-After"] == "1"
    await reports(service, "up")
    proxy.delay = 0
    assert await code(service) is None


async def test_flood_with_a_revoked_token_gets_nothing_over_a_slow_network(
    serve: Serve, redis_server: RedisServer, proxy: TcpProxy
) -> None:
    await redis_server.execute("SET", token_key("t1"), "1")
    proxy.delay = 0.1
    service = await serve(REDIS_URL=proxy.url, **SERVE)
    await reports(service, "up")
    flood = [code(service, jti="t1") for _ in range(100)]
    others = [code(service, id=f"pt_{number}") for number in range(20)]
    codes = await asyncio.gather(*flood, *others)
    assert set(codes[:100]) <= {"AUTH_TOKEN_REVOKED", "AUTH_UNAVAILABLE"}
    assert codes[100:] == [None] * 20
    assert await metric(service, "redis_up") == 1


@pytest.mark.parametrize("mode", ["refuse", "serve"])
async def test_lookup_that_redis_rejects_while_up_rejects_the_request(
    client: RedisClient, redis_server: RedisServer, mode: str
) -> None:
    failures: list[bool] = []
    revocations = make_list(
        client, serve_without=mode == "serve", on_failure=lambda: failures.append(True)
    )
    client.probes.clear()
    await redis_server.execute("ACL", "SETUSER", "default", "-mget")
    with pytest.raises(ApiError, match="AUTH_UNAVAILABLE"):
        await revocations.is_revoked(caller("t1", "pt_1"))
    assert failures == [True]

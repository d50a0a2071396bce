"""The rate limit: in the process, shared through Redis, and when Redis does not count."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rig.redis_server import RedisServer
from rig.service import Service
from rig.waiting import eventually
from server.policies.rate_limits import InMemoryRateLimiter, RedisLimit
from server.redis.client import RedisClient
from server.redis.connection import RedisReplyError, UnexpectedAnswer
from tests.conftest import Serve
from tests.revocation_keys import patient_key
from tests.server.redis.support import Clock, code, metric, reports
from tests.server.redis.test_revocation_list import caller, make_list

METRICS = {"METRICS_ENABLED": "true"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limit(rate: str, clock: Clock) -> InMemoryRateLimiter:
    return InMemoryRateLimiter(rate, clock=clock, max_windows=3)


# --- in the process -----------------------------------------------------------------------------


async def test_request_over_the_limit_waits_for_the_end_of_the_window(clock: Clock) -> None:
    acquire = limit("2/minute", clock).acquire
    assert [await acquire("a"), await acquire("a")] == [None, None]
    clock.now += 20
    assert [await acquire("a") for _ in range(100)] == [40] * 100
    assert await acquire("b") is None


async def test_window_ends_and_the_next_begins(clock: Clock) -> None:
    acquire = limit("1/second", clock).acquire
    assert await acquire("a") is None
    clock.now += 0.999
    assert await acquire("a") is not None
    clock.now += 0.001
    assert await acquire("a") is None
    assert await acquire("a") == 1


@pytest.mark.parametrize(
    ("rate", "seconds"), [("1/second", 1), ("1/minute", 60), ("1/hour", 3600), ("1/day", 86400)]
)
async def test_units_of_the_setting(clock: Clock, rate: str, seconds: int) -> None:
    acquire = limit(rate, clock).acquire
    assert [await acquire("a"), await acquire("a")] == [None, seconds]


async def test_ended_windows_are_removed(clock: Clock) -> None:
    limiter = limit("1/second", clock)
    for name in ("a", "b", "c"):
        await limiter.acquire(name)
    clock.now += 1
    await limiter.acquire("d")
    assert list(limiter._windows) == ["d"]


async def test_new_window_of_a_known_patient_is_the_youngest(clock: Clock) -> None:
    limiter = limit("1/minute", clock)
    await limiter.acquire("a")
    clock.now += 30
    await limiter.acquire("b")
    clock.now += 30
    await limiter.acquire("a")
    assert list(limiter._windows) == ["b", "a"]


async def test_oldest_window_is_dropped_beyond_the_maximum(clock: Clock) -> None:
    limiter = limit("1/minute", clock)
    for number in range(100):
        await limiter.acquire(str(number))
        assert len(limiter._windows) <= 3
    assert await limiter.acquire("99") == 60
    assert await limiter.acquire("0") is None


# --- shared through Redis -----------------------------------------------------------------------


def make_limiter(client: RedisClient, rate: str) -> Callable[[str], Awaitable[float | None]]:
    """Return a function that counts a request of a patient in Redis."""
    limit = RedisLimit(client, rate, on_failure=pytest.fail)
    revocations = make_list(client, limit=limit)

    async def acquire(patient_id: str) -> float | None:
        access = await revocations.check_access(caller(None, patient_id))
        assert access.counted
        return access.wait

    return acquire


@pytest.mark.redis
async def test_concurrent_requests_are_counted_exactly(client: RedisClient) -> None:
    acquire = make_limiter(client, "10/hour")
    waits = await asyncio.gather(*(acquire("pt_1") for _ in range(100)))
    assert waits.count(None) == 10


@pytest.mark.redis
async def test_window_expires_with_its_key(client: RedisClient, redis_server: RedisServer) -> None:
    limiter = make_limiter(client, "1/minute")
    assert await limiter("pt_1") is None
    left = await limiter("pt_1")
    assert left is not None
    assert 55 < left <= 60
    key = "{vapi-sessions}:limit:1/minute:pt_1"
    await redis_server.execute("PEXPIRE", key, "1")

    async def has_expired() -> bool:
        return await redis_server.execute("EXISTS", key) == "0"

    await eventually(has_expired)
    assert await limiter("pt_1") is None


@pytest.mark.redis
async def test_window_without_an_expiry_gets_one(
    client: RedisClient, redis_server: RedisServer
) -> None:
    limiter = make_limiter(client, "2/minute")
    key = "{vapi-sessions}:limit:2/minute:pt_1"
    await redis_server.execute("SET", key, "5")
    assert await limiter("pt_1") == 60
    assert 0 < int(await redis_server.execute("PTTL", key)) <= 60_000


@pytest.mark.redis
async def test_script_that_redis_has_lost_is_sent_again(
    client: RedisClient, redis_server: RedisServer
) -> None:
    limiter = make_limiter(client, "2/minute")
    for _ in range(2):
        await redis_server.execute("SCRIPT", "FLUSH")
        assert await limiter("pt_1") is None
    assert await limiter("pt_1") is not None


@pytest.mark.redis
async def test_limit_that_is_off_is_not_probed(serve: Serve, redis_server: RedisServer) -> None:
    service = await serve(REDIS_URL=redis_server.url, RATE_LIMIT="off")
    await reports(service, "up")
    assert [await code(service) for _ in range(40)] == [None] * 40
    assert await redis_server.execute("KEYS", "*limit*") == ""


@pytest.mark.redis
async def test_revocation_pause_and_limit_are_one_command(
    client: RedisClient, redis_server: RedisServer
) -> None:
    acquire = make_limiter(client, "2/minute")
    assert await acquire("pt_1") is None
    client.probes.clear()
    await redis_server.execute("CONFIG", "RESETSTAT")
    assert await acquire("pt_1") is None
    stats = await redis_server.execute("INFO", "commandstats")
    assert "cmdstat_evalsha:calls=1," in stats
    assert "cmdstat_mget:calls=1," in stats  # inside the script


# --- when Redis does not count ------------------------------------------------------------------


@pytest.fixture
async def limited(serve: Serve, redis_server: RedisServer) -> Service:
    """Run the service with a limit of two requests, once Redis is up."""
    service = await serve(REDIS_URL=redis_server.url, RATE_LIMIT="2/hour", **METRICS)
    await reports(service, "up")
    return service


@pytest.mark.redis
@pytest.mark.parametrize(
    ("reject", "accept", "reason"),
    [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM"),
        ("ACL SETUSER default -evalsha", "ACL SETUSER default +@all", "NOPERM"),
    ],
    ids=["full", "not permitted"],
)
async def test_limit_that_redis_rejects_is_counted_in_the_process(
    limited: Service,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    reject: str,
    accept: str,
    reason: str,
) -> None:
    caplog.set_level("INFO", "server")
    await redis_server.execute("SET", "{vapi-sessions}:revoked:patient:pt_2", "1")

    async def is_logged(text: str) -> bool:
        return text in caplog.messages

    await redis_server.execute(*reject.split())
    assert [await code(limited) for _ in range(3)] == [None, None, "RATE_LIMITED"]
    assert await code(limited, id="pt_2") == "AUTH_TOKEN_REVOKED"
    assert await metric(limited, "limiter_failures_total") == 3
    assert await metric(limited, "redis_up") == 1
    begin = f"Redis rejects rate limits ({reason}): each process counts by itself"
    await eventually(lambda: is_logged(begin))
    await redis_server.execute(*accept.split())
    await eventually(lambda: is_logged("Redis accepts rate limits again"))
    assert [await code(limited) for _ in range(3)] == [None, None, "RATE_LIMITED"]
    assert await metric(limited, "limiter_failures_total") == 3
    assert caplog.messages == [begin, "Redis accepts rate limits again"]


@pytest.mark.redis
async def test_request_of_a_revoked_patient_is_not_counted(
    limited: Service, redis_server: RedisServer
) -> None:
    await redis_server.execute("SET", patient_key("pt_1"), "1")
    assert [await code(limited) for _ in range(3)] == ["AUTH_TOKEN_REVOKED"] * 3
    await redis_server.execute("DEL", patient_key("pt_1"))
    assert [await code(limited) for _ in range(3)] == [None, None, "RATE_LIMITED"]


@pytest.mark.redis
async def test_only_requests_of_patients_are_counted(
    serve: Serve, redis_server: RedisServer
) -> None:
    settings = {"RATE_LIMIT": "1/hour", "JWT_REQUIRED_SCOPE": "voice"}
    service = await serve(REDIS_URL=redis_server.url, **settings)
    await reports(service, "up")
    assert await code(service, scope="voice", type="doctor") == "FORBIDDEN"
    assert await code(service) == "INSUFFICIENT_SCOPE"
    asked = [await code(service, scope="voice") for _ in range(2)]
    assert asked == [None, "RATE_LIMITED"]


@pytest.mark.redis
@pytest.mark.parametrize("values", [["a", "b"], ["a", "b", 1], "1"])
async def test_answer_of_another_form_is_a_failure_of_redis(
    redis_server: RedisServer, values: object
) -> None:
    async def execute(command: bytes, *_: object) -> object:
        if command == b"EVALSHA":
            raise RedisReplyError("NOSCRIPT No matching script")
        return values

    client = RedisClient(redis_server.url)
    RedisLimit(client, "1/hour", on_failure=pytest.fail)
    with pytest.raises(UnexpectedAnswer):
        await client.probes[0](execute)

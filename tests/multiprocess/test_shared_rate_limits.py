"""Rate limits that several processes share through Redis, and without Redis."""

import pytest

from rig.process import ALONE, Running
from rig.redis_server import RedisServer
from rig.wire import exchange, get, start_request
from tests.multiprocess.conftest import Start

pytestmark = pytest.mark.redis

LIMITED = {"RATE_LIMIT": "6/hour", "REDIS_FAILURE": "serve", "METRICS_ENABLED": "true"}


async def statuses(patient: str, *services: Running) -> list[int]:
    """Send a request to each service, in this order."""
    return [(await exchange(service, start_request(patient))).status for service in services]


async def metric(service: Running, name: str) -> float:
    """Return the value of a metric."""
    text = (await exchange(service, get("/metrics"))).body.decode()
    (value,) = (line.split()[1] for line in text.splitlines() if line.startswith(f"{name} "))
    return float(value)


async def test_processes_share_a_limit_and_keep_it_alone_while_redis_is_down(
    start: Start, redis_server: RedisServer
) -> None:
    one = await start(ALONE, REDIS_URL=redis_server.url, **LIMITED)
    other = await start(ALONE, REDIS_URL=redis_server.url, **LIMITED)
    assert await statuses("pt_a", one, other, one, other, one, other) == [200] * 6
    assert await statuses("pt_a", one, other) == [429, 429]
    assert await statuses("pt_b", one, other) == [200, 200]
    assert await metric(one, "vapi_sessions_redis_up") == 1

    await redis_server.stop()
    assert await statuses("pt_a", *[one] * 7) == [200] * 6 + [429]
    assert await statuses("pt_a", *[other] * 7) == [200] * 6 + [429]
    for service in (one, other):
        assert len(service.log.matching("Redis is down: ConnectionRefusedError")) == 1
        assert not service.log.matching("Traceback")
        assert await metric(service, "vapi_sessions_limiter_failures_total") == 7
        assert await metric(service, "vapi_sessions_redis_up") == 0

    await redis_server.start()
    for service in (one, other):
        await service.log.find("Redis is up again")
    assert await statuses("pt_a", *[one] * 6, other) == [200] * 6 + [429]
    assert await metric(other, "vapi_sessions_limiter_failures_total") == 7

"""A slow network to Redis under load: it costs time, and refuses nothing."""

import asyncio
from collections import Counter

import pytest

from rig.process import ALONE, Running
from rig.redis_server import RedisServer
from rig.tcp_proxy import TcpProxy
from rig.wire import connected, read_answer, start_request
from tests.multiprocess.conftest import Start

pytestmark = pytest.mark.redis

CLIENTS = 400
REQUESTS = 3


async def send_requests(service: Running, number: int) -> list[int]:
    """Send requests one after the other over one connection; return the statuses."""
    async with connected(service) as (reader, writer):
        statuses = []
        for _ in range(REQUESTS):
            writer.write(start_request(f"pt_{number}"))
            statuses.append((await read_answer(reader)).status)
        return statuses


async def test_load_over_a_slow_network_is_served(start: Start, redis_server: RedisServer) -> None:
    proxy = TcpProxy(redis_server.port, delay=0.1)
    await proxy.start()
    service = await start(ALONE, REDIS_URL=proxy.url, METRICS_ENABLED="true")
    tasks = [send_requests(service, number) for number in range(CLIENTS)]
    statuses = Counter(status for each in await asyncio.gather(*tasks) for status in each)
    assert statuses == {200: CLIENTS * REQUESTS}
    assert not service.log.matching("Redis")
    await proxy.stop()

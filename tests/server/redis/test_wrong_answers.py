"""A Redis whose answers do not fit the commands, as when they come out of order."""

import pytest

from rig.tcp_proxy import TcpProxy
from tests.conftest import Serve
from tests.server.redis.support import code, metric, reports

pytestmark = pytest.mark.redis


WRONG = [b":1\r\n", b"+OK\r\n", b"*1\r\n$1\r\n1\r\n", b"*2\r\n:1\r\n:2\r\n", b"_\r\n"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mode", ["refuse", "serve"])
async def test_wrong_answer_to_a_lookup_is_a_failed_lookup(
    serve: Serve, proxy: TcpProxy, mode: str
) -> None:
    service = await serve(
        REDIS_URL=proxy.url, REDIS_FAILURE=mode, METRICS_ENABLED="true", RATE_LIMIT="off"
    )
    for count, answer in enumerate(WRONG, 1):
        await reports(service, "up")
        proxy.wrong_answers = {b"revoked:patient": answer}
        assert await code(service) == "AUTH_UNAVAILABLE"
        assert await metric(service, "revocation_failures_total") == count
        proxy.wrong_answers = {}
        assert await code(service) is None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "answer",
    [
        *[b"+OK\r\n", b"*0\r\n", b"_\r\n", b"*2\r\n$-1\r\n:-1\r\n"],
        *[b"*3\r\n$-1\r\n$-1\r\n$-1\r\n", b"*3\r\n$-1\r\n:1\r\n:-1\r\n"],
    ],
)
async def test_wrong_answer_to_a_limit_is_counted_in_the_process(
    serve: Serve, proxy: TcpProxy, answer: bytes
) -> None:
    service = await serve(REDIS_URL=proxy.url, RATE_LIMIT="1/hour")
    await reports(service, "up")
    proxy.wrong_answers = {b"limit:1/hour": answer}
    assert await code(service) is None
    assert await code(service) == "RATE_LIMITED"

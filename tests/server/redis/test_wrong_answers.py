"""A Redis whose answers do not fit the commands, as when they come out of order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.conftest import Serve
from tests.redis_server import RedisServer
from tests.server.redis.support import code, metric, reports

pytestmark = pytest.mark.redis


class Swapper:
    """Forwards to Redis, but answers a chunk of commands that has `trigger` with `answer`."""

    def __init__(self, target: int) -> None:
        self.trigger = b""
        self.answer = b""
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis, to_redis = await asyncio.open_connection("127.0.0.1", self._target)
        answers = asyncio.create_task(self._copy(redis, writer))
        self._tasks.add(answers)
        while data := await reader.read(65536):
            if self.trigger and self.trigger in data:
                writer.write(self.answer)
            else:
                to_redis.write(data)
        to_redis.close()
        await answers

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


@asynccontextmanager
async def swapping(target: int) -> AsyncIterator[tuple[Swapper, str]]:
    swapper = Swapper(target)
    with suppress(asyncio.CancelledError):
        async with await asyncio.start_server(swapper.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            yield swapper, f"redis://127.0.0.1:{port}"
            server.close()


WRONG = [b":1\r\n", b"+OK\r\n", b"*1\r\n$1\r\n1\r\n", b"*2\r\n:1\r\n:2\r\n", b"_\r\n"]


@pytest.mark.parametrize("mode", ["refuse", "serve"])
@pytest.mark.parametrize("answer", WRONG)
async def test_wrong_answer_to_a_lookup_is_a_failed_lookup(
    serve: Serve, redis_server: RedisServer, answer: bytes, mode: str
) -> None:
    async with swapping(redis_server.port) as (swapper, url):
        service = await serve(REDIS_URL=url, REDIS_FAILURE=mode, METRICS_ENABLED="true")
        await reports(service, "up")
        swapper.trigger, swapper.answer = b"revoked:patient", answer
        assert await code(service) == "AUTH_UNAVAILABLE"
        assert await metric(service, "revocation_failures_total") == 1
        swapper.trigger = b""
        assert await code(service) is None


@pytest.mark.parametrize("answer", [b"+OK\r\n", b"*0\r\n", b"_\r\n"])
async def test_wrong_answer_to_a_limit_is_counted_in_the_process(
    serve: Serve, redis_server: RedisServer, answer: bytes
) -> None:
    async with swapping(redis_server.port) as (swapper, url):
        service = await serve(REDIS_URL=url, RATE_LIMIT="1/hour")
        await reports(service, "up")
        swapper.trigger, swapper.answer = b"limit:1/hour", answer
        assert await code(service) is None
        assert await code(service) == "RATE_LIMITED"

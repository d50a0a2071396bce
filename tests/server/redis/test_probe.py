"""The probe: its time limit, and what does not count against it."""

import asyncio
import time

import pytest

from rig.redis_server import RedisServer
from server.redis import client
from server.redis.client import answered
from server.redis.connection import Execute, open_connection
from tests.server.redis.support import read

pytestmark = pytest.mark.redis


async def test_answers_that_arrive_while_the_process_is_busy_count(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_WAIT_SECONDS", 0.1)

    async def block(execute: Execute) -> None:
        answer = asyncio.ensure_future(execute(b"MGET", b"{vapi-sessions}:a"))
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251  a process that does nothing else for longer than all waits
        await answer

    async with open_connection(redis_server.url) as connection:
        await answered(block(connection.execute))


async def test_probes_without_an_answer_time_out(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_WAIT_SECONDS", 0.01)
    async with open_connection(redis_server.url) as connection:
        redis_server.suspend()
        with pytest.raises(TimeoutError):
            await answered(read(connection.execute))
        redis_server.resume()

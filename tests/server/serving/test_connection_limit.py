"""The number of open connections is limited and reported."""

from contextlib import AsyncExitStack

import pytest

from rig.issuer import eventually
from rig.wire import dial, head
from server.serving.connection_limit import ConnectionLimit
from server.serving.state import CONNECTIONS
from tests.conftest import Serve

GET = head(method="GET", path="/healthz")


async def test_connections_beyond_the_maximum_are_closed(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "server.serving.connection_limit")
    service = await serve(MAX_CONNECTIONS="5", METRICS_ENABLED="true")
    limit = service.app[CONNECTIONS]

    async def none_is_open() -> bool:
        return limit.open == 0

    for episode in (1, 2):
        async with AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(dial(service)) for _ in range(9)]
            for wire in wires[:5]:
                await wire.send(GET)
                assert (await wire.answer()).status == 200
            for wire in wires[5:]:
                assert await wire.rest() == b""
            await wires[0].send(head(method="GET", path="/metrics"))
            text = (await wires[0].answer()).body.decode()
            assert "\nvapi_sessions_open_connections 5.0\n" in text
            assert "\nvapi_sessions_max_connections 5.0\n" in text
            assert f"\nvapi_sessions_refused_connections_total {4 * episode}.0\n" in text
        await eventually(none_is_open)
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * episode
    assert "5 connections are open" in caplog.text
    assert "after 4 were closed" in caplog.text


def test_episode_ends_when_a_tenth_is_free(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "server.serving.connection_limit")
    limit = ConnectionLimit(20)
    assert [limit.acquire() for _ in range(22)] == [True] * 20 + [False] * 2
    limit.release()
    assert limit.acquire()
    assert not limit.acquire()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    limit.release()
    limit.release()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert (limit.open, limit.refused) == (18, 3)

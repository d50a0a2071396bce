"""Clients are accepted at once, up to a maximum of connections, and memory is returned."""

import asyncio
import resource
import socket
from contextlib import AsyncExitStack, ExitStack

import pytest

from rig.issuer import eventually
from rig.wire import dial, head
from server.serving import server
from server.serving.connection_limits import Connections
from server.serving.server import (
    INTERFACE,
    Acceptor,
    connections_within_limit,
    raise_open_file_limit,
)
from tests.conftest import Serve


class Recorder(asyncio.Protocol):
    """Records the peers of the connections."""

    def __init__(self, peers: list[tuple[str, int]], made: list[asyncio.BaseTransport]) -> None:
        self._peers = peers
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._peers.append(transport.get_extra_info("peername"))
        self._made.append(transport)


@pytest.mark.both_event_loops
async def test_connections_are_accepted_within_a_few_turns() -> None:
    peers: list[tuple[str, int]] = []
    made: list[asyncio.BaseTransport] = []
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=200))
        acceptor = Acceptor(lambda: Recorder(peers, made), [listener])
        address = listener.getsockname()
        clients = [sockets.enter_context(socket.create_connection(address)) for _ in range(100)]
        acceptor.start()
        for _ in range(10):
            await asyncio.sleep(0)
        assert sorted(peers) == sorted(client.getsockname() for client in clients)
        await acceptor.stop()
        for transport in made:
            transport.close()


@pytest.mark.both_event_loops
async def test_stopped_acceptor_has_made_what_it_accepted() -> None:
    peers: list[tuple[str, int]] = []
    made: list[asyncio.BaseTransport] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = Acceptor(lambda: Recorder(peers, made), [listener])
        acceptor.start()
        with socket.create_connection(listener.getsockname()):
            await asyncio.sleep(0.01)
            await acceptor.stop()
            assert len(peers) == 1
            made[0].close()
        with socket.create_connection(listener.getsockname()):
            await asyncio.sleep(0.01)
            assert len(peers) == 1


GET = head(method="GET", path="/healthz")


async def test_connections_beyond_the_maximum_are_closed(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "server.serving.connection_limits")
    service = await serve(MAX_CONNECTIONS="5", METRICS_ENABLED="true")
    limit = service.app[INTERFACE].connections

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
    caplog.set_level("INFO", "server.serving.connection_limits")
    limit = Connections()
    limit.maximum = 20
    assert [limit.acquire() for _ in range(22)] == [True] * 20 + [False] * 2
    limit.release()
    assert limit.acquire()
    assert not limit.acquire()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    limit.release()
    limit.release()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert (limit.open, limit.refused) == (18, 3)


@pytest.mark.parametrize("exists", [True, False])
def test_return_free_memory(monkeypatch: pytest.MonkeyPatch, *, exists: bool) -> None:
    paddings: list[int] = []
    monkeypatch.setattr(server, "_malloc_trim", paddings.append if exists else None)
    server.return_free_memory()
    assert paddings == ([0] if exists else [])


@pytest.mark.parametrize(
    ("soft", "hard", "becomes"),
    [
        (1024, 524288, [(65536, 524288)]),
        (1024, resource.RLIM_INFINITY, [(65536, resource.RLIM_INFINITY)]),
        (1024, 4096, [(4096, 4096)]),
        (100_000, 524288, []),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, []),
    ],
)
def test_limit_is_raised_and_never_lowered(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, becomes: list[tuple[int, int]]
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    raise_open_file_limit()
    assert limits == becomes


@pytest.mark.parametrize(
    ("soft", "maximum", "allowed"),
    [(65536, 10000, 10000), (1024, 10000, 960), (100, 10000, 50), (100, 20, 20), (-1, 9, 9)],
)
def test_connections_leave_files_for_everything_else(
    monkeypatch: pytest.MonkeyPatch, soft: int, maximum: int, allowed: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, -1))
    assert connections_within_limit(maximum) == allowed

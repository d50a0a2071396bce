"""Clients are accepted at once, up to a maximum of connections, and memory is returned."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack

import pytest

from rig.service import Service, sign
from rig.waiting import eventually
from rig.wire import Wire, dial, head, post
from server.serving import connection_limits, server
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


class Client(AsyncExitStack):
    """Connections of a test, by name."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self._wires: dict[str, Wire] = {}

    async def open(self, name: str, sent: bytes = b"") -> None:
        """Connect, send, and wait until the service has read that."""
        connections = self._service.app[INTERFACE].connections
        before = connections.accepted + connections.refused
        self._wires[name] = wire = await self.enter_async_context(dial(self._service))

        async def is_counted() -> bool:
            return connections.accepted + connections.refused > before

        if sent:
            await wire.send(sent)
        await eventually(is_counted)
        await self.turns()

    async def use(self, name: str) -> None:
        """Send a request and read its response."""
        await self._wires[name].send(GET)
        assert (await self._wires[name].answer()).status == 200

    async def turns(self) -> None:
        """Let the service read what has arrived."""
        for _ in range(10):
            await asyncio.sleep(0.002)

    async def closed(self) -> set[str]:
        """Return the names of those that the service has closed."""
        await self.turns()
        return {name for name, wire in self._wires.items() if wire.has_ended}


@pytest.fixture
async def full(serve: Serve) -> AsyncIterator[Client]:
    """Yield a client of a service that takes three connections."""
    async with Client(await serve(MAX_CONNECTIONS="3", SESSION_BUDGET_SECONDS="20")) as client:
        yield client


async def test_oldest_without_a_request_makes_room_first(
    full: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "_NEW_SECONDS", 0)
    await full.open("idle")
    await full.use("idle")
    await full.open("part of a head", GET[:9])
    await full.open("silent")
    await full.open("fourth")
    assert await full.closed() == {"part of a head"}
    await full.open("fifth")
    assert await full.closed() == {"part of a head", "silent"}
    await full.use("idle")


async def test_idle_longest_makes_room_before_what_has_just_connected(full: Client) -> None:
    for name in ("first", "second"):
        await full.open(name)
        await full.use(name)
    await full.use("first")
    await full.open("silent")
    await full.open("fourth")
    assert await full.closed() == {"second"}
    await full.open("fifth")
    assert await full.closed() == {"second", "first"}
    await full.open("sixth")
    assert await full.closed() == {"second", "first", "silent"}


async def test_new_connection_is_closed_while_each_other_has_a_request(full: Client) -> None:
    request = post(b"{}", token=sign())
    for name in ("first", "second", "third"):
        await full.open(name, request[:-1])
    await full.open("fourth")
    assert await full.closed() == {"fourth"}
    await full.open("fifth", request)
    assert await full.closed() == {"fourth", "fifth"}


def test_connection_that_has_ended_is_not_counted_again() -> None:
    connections = connection_limits.Connections()
    connections.maximum = 1
    ended = Ended()
    assert connections.add(ended)
    connections.begin_request(ended)
    connections.remove(ended)
    connections.end_request(ended)
    connections.begin_request(ended)
    assert connections.open == 0


class Ended:
    """A connection that the client has closed."""

    def abort(self) -> None:
        raise AssertionError


async def test_room_is_reported_once_for_each_episode(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "server.serving.connection_limits")
    service = await serve(MAX_CONNECTIONS="2", METRICS_ENABLED="true", SESSION_BUDGET_SECONDS="20")
    connections = service.app[INTERFACE].connections

    async def none_is_open() -> bool:
        return connections.open == 0

    for episode in (1, 2):
        async with Client(service) as client:
            await client.open("busy", post(b"{}", token=sign())[:-1])
            await client.open("idle")
            await client.use("idle")
            await client.open("second", post(b"{}", token=sign())[:-1])
            await client.open("third")
            assert await client.closed() == {"idle", "third"}
        await eventually(none_is_open)
        levels = [record.levelname for record in caplog.records]
        assert levels == ["WARNING", "INFO"] * episode
    assert "after 1 were closed to make room and 1 new ones" in caplog.text
    text = (await service.ask("GET", "/metrics")).body.decode()
    assert "\nvapi_sessions_open_connections 1.0\n" in text
    assert "\nvapi_sessions_max_connections 2.0\n" in text
    assert "\nvapi_sessions_refused_connections_total 2.0\n" in text
    assert "\nvapi_sessions_evicted_connections_total 2.0\n" in text


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

"""Connections that wait are accepted together."""

import asyncio
import socket
from contextlib import ExitStack

import pytest

from server.serving.acceptor import Acceptor


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

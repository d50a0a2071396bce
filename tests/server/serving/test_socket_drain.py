"""A listening socket that is shut: who is in stays in, who comes waits outside."""

import select
import socket
import sys
from collections.abc import Iterator

import pytest

from server.serving.socket_drain import stop_accepting


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def knock(listener: socket.socket) -> socket.socket:
    """Begin to connect, and wait for nothing."""
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(listener.getsockname())
    return client


def is_connected(client: socket.socket) -> bool:
    """Tell at once: over loopback the kernel has answered before `connect` returns, if it does."""
    return bool(select.select([], [client], [], 0)[1])


def test_an_open_socket_lets_clients_in(listener: socket.socket) -> None:
    with knock(listener) as client:
        assert is_connected(client)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can")
def test_a_shut_socket_lets_nobody_new_in(listener: socket.socket) -> None:
    stop_accepting([listener])
    with knock(listener) as client:
        assert not is_connected(client)


def test_who_came_before_is_accepted_and_can_talk(listener: socket.socket) -> None:
    with knock(listener) as client:
        client.setblocking(True)
        stop_accepting([listener])
        served, _ = listener.accept()
        with served:
            client.sendall(b"question")
            assert served.recv(8) == b"question"
            served.sendall(b"answer")
            assert client.recv(6) == b"answer"


def test_a_socket_that_cannot_be_shut_is_let_be() -> None:
    closed = socket.socket()
    closed.close()
    stop_accepting([closed])

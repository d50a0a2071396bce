"""A socket that stops accepting keeps the connections that it has."""

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


def start_connecting(listener: socket.socket) -> socket.socket:
    """Begin to connect, without waiting."""
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(listener.getsockname())
    return client


def is_connected(client: socket.socket) -> bool:
    """Return at once: on loopback the kernel answers before `connect` returns, if at all."""
    return bool(select.select([], [client], [], 0)[1])


def test_listening_socket_accepts(listener: socket.socket) -> None:
    with start_connecting(listener) as client:
        assert is_connected(client)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_no_new_connection_is_established(listener: socket.socket) -> None:
    stop_accepting([listener])
    with start_connecting(listener) as client:
        assert not is_connected(client)


def test_connection_in_the_queue_is_accepted(listener: socket.socket) -> None:
    with start_connecting(listener) as client:
        client.setblocking(True)
        stop_accepting([listener])
        served, _ = listener.accept()
        with served:
            client.sendall(b"request!")
            assert served.recv(8) == b"request!"
            served.sendall(b"answer")
            assert client.recv(6) == b"answer"


def test_closed_socket_is_ignored() -> None:
    closed = socket.socket()
    closed.close()
    stop_accepting([closed])

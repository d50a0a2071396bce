"""The end of a connection that the client has already closed."""

from types import SimpleNamespace
from typing import Any

from server.serving.connection import Connection


def test_closed_connection_does_not_linger() -> None:
    closed: Any = SimpleNamespace(transport=None)
    Connection._linger(closed)
    assert closed == SimpleNamespace(transport=None)

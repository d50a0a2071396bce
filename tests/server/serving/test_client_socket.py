"""The options of a client's socket."""

import pytest

from server.serving import client_socket
from tests.conftest import Serve
from tests.support import sign


async def test_systems_without_tcp_user_timeout(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_socket, "_TCP_USER_TIMEOUT", None)
    service = await serve()
    assert (await service.start(sign())).status == 200

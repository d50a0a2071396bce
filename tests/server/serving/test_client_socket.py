"""The options of a client's socket."""

import pytest

from rig.service import sign
from server.serving import client_socket
from tests.conftest import Serve


async def test_systems_without_tcp_user_timeout(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_socket, "_TCP_USER_TIMEOUT", None)
    service = await serve()
    assert (await service.start(sign())).status == 200

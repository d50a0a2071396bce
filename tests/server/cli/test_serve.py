"""`python -m server serve`."""

import socket
from importlib.metadata import version
from pathlib import Path

import pytest

from rig.process import ALONE, started
from rig.service import VARIABLES
from server.cli.main import main


def test_used_port_is_reported_in_one_line(
    configured: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        configured.setenv("PORT", str(taken.getsockname()[1]))
        assert main(["serve"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "Cannot serve on 127.0.0.1 port" in line


@pytest.mark.parametrize("arguments", [[], ["serve"]])
async def test_process_serves_until_it_is_terminated(arguments: list[str], tmp_path: Path) -> None:
    async with started((*ALONE, *arguments), tmp_path, VARIABLES) as served:
        ended = await served.terminate()
    assert ended.status == 0
    assert "shutting down" in ended.err
    assert f"version {version('vapi-sessions')}" in ended.err

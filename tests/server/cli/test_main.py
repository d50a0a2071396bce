"""The command line: wrong arguments, help, the commands without a valid configuration, `serve`."""

import json
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from rig.process import ALONE, environment, started
from rig.service import VARIABLES
from server import __version__
from server.cli.main import main
from tests.conftest import Command

COMMANDS = ["", "serve", "check", "check --json", "token --patient x", "revoke --jti x"]


@pytest.mark.parametrize("line", COMMANDS)
async def test_no_command_runs_with_an_invalid_configuration(line: str, command: Command) -> None:
    invalid = {"PORT": "marked-value", "RATE_LIMIT": "marked-value", "VAPI_API_KEY": ""}
    ended = await command(*line.split(), **invalid)
    assert (ended.status, ended.out) == (78, "")
    reported = [line.split(":")[0] for line in ended.err.splitlines()[1:-1]]
    assert reported == ["PORT", "RATE_LIMIT", "VAPI_API_KEY"]
    assert "marked-value" not in ended.err


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "token",
        "token --patient",
        "token --patient x --for soon",
        "revoke",
        "revoke --jti",
        "revoke --jti a --patient b",
        "pause --for",
        "pause --for 0",
        "pause --for -1",
        "pause --for 1.5",
        "pause --for 1h",
        "pause --for \u0661",
        "pause --for 1000000001",
        "pause --reason",
        "end",
        "check --xml",
        "check --token",
        "check --token eyJ",
        "check --service example",
    ],
)
async def test_wrong_arguments_print_the_usage(line: str, command: Command) -> None:
    ended = await command(*line.split())
    assert ended.status == 2
    assert "usage: python -m server" in ended.err


async def test_the_version_needs_no_configuration(command: Command) -> None:
    ended = await command("--version", **dict.fromkeys(VARIABLES, ""))
    assert (ended.status, ended.out) == (0, f"{__version__}\n")


async def test_help_lists_the_commands(command: Command) -> None:
    ended = await command("--help")
    assert ended.status == 0
    for word in ("serve", "check", "token", "revoke", "config.example.env"):
        assert word in ended.out


IMPORTED = """
import os, sys
from server.cli.main import main
rare = {"hiredis", "prometheus_client", "server.calls.monitor", "server.cli.calls"}
sys.stderr.write(f"{not rare.isdisjoint(sys.modules)}\\n")
for command, url in (("token --patient x", "redis://127.0.0.1:1"), ("check", ""),
                     ("check", "redis://127.0.0.1:1")):
    os.environ["REDIS_URL"] = url
    main(command.split())
    sys.stderr.write(f"{'hiredis' in sys.modules}\\n")
"""


def test_a_start_imports_nothing_that_only_an_option_or_another_command_needs(
    tmp_path: Path,
) -> None:
    env = environment(VARIABLES)
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        cwd=tmp_path,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    found = [line for line in ended.stderr.splitlines() if line in {"True", "False"}]
    assert found == ["False", "False", "False", "True"]


def test_used_port_is_reported_in_one_line(
    configured: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        configured.setenv("PORT", str(taken.getsockname()[1]))
        assert main(["serve"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "Cannot serve on 127.0.0.1 port" in line


async def test_process_serves_until_it_is_terminated(tmp_path: Path) -> None:
    questionable = {"JWT_AUDIANCE": "voice", "VAPI_ASSISTANT_ID": "nurse"}
    async with started((*ALONE, "serve"), tmp_path, {**VARIABLES, **questionable}) as served:
        ended = await served.terminate()
    assert ended.status == 0
    assert "shutting down" in ended.err
    assert f"version {version('vapi-sessions')}" in ended.err
    records = [json.loads(line) for line in ended.err.splitlines()]
    warnings = [each["message"] for each in records if each["level"] == "WARNING"]
    assert warnings == ["JWT_AUDIANCE: unknown; did you mean JWT_AUDIENCE?"]

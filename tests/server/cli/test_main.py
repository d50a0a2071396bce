"""The command line: exit statuses of an invalid configuration and of wrong arguments, and help."""

import subprocess
import sys
from pathlib import Path

import pytest

from rig.process import environment, run
from rig.service import VARIABLES
from server import __version__
from server.cli.main import main

Captured = pytest.CaptureFixture[str]

COMMANDS = ["", "serve", "check", "check --json", "token --patient x", "revoke --jti x"]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_with_an_invalid_configuration(
    command: str, configured: pytest.MonkeyPatch, capfd: Captured
) -> None:
    configured.setenv("PORT", "marked-value")
    configured.setenv("RATE_LIMIT", "marked-value")
    configured.delenv("VAPI_API_KEY")
    with pytest.raises(SystemExit) as caught:
        main(command.split())
    assert caught.value.code == 78
    out, err = capfd.readouterr()
    assert out == ""
    reported = [line.split(":")[0] for line in err.splitlines()[1:-1]]
    assert reported == ["PORT", "RATE_LIMIT", "VAPI_API_KEY"]
    assert "marked-value" not in err


async def test_process_exits_with_78_without_a_stack_trace(tmp_path: Path) -> None:
    ended = await run(tmp_path, {"PORT": "marked-value"})
    assert ended.status == 78
    assert ended.out == ""
    lines = ended.err.splitlines()
    for name in ("PORT", "VAPI_API_KEY", "VAPI_ASSISTANT_ID", "JWT_SECRET"):
        assert len([line for line in lines if line.startswith(f"{name}: ")]) == 1
    assert "Traceback" not in ended.err
    assert "marked-value" not in ended.err


@pytest.mark.parametrize(
    "command",
    [
        "nonsense",
        "token",
        "token --patient",
        "token --patient x --for 0",
        "token --patient x --for -1",
        "token --patient x --for soon",
        "token --patient x --for 1000000001",
        "revoke",
        "revoke --jti a --patient b",
        "check --xml",
        "check --token",
        "check --token eyJ",
    ],
)
def test_wrong_arguments_print_the_usage(command: str, capfd: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        main(command.split())
    assert caught.value.code == 2
    assert "usage: python -m server" in capfd.readouterr().err


@pytest.mark.usefixtures("unconfigured")
def test_the_version_needs_no_configuration(capfd: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capfd.readouterr().out == f"{__version__}\n"


IMPORTED = """
import os, sys
from server.cli.main import main
for command, url in (("token --patient x", "redis://127.0.0.1:1"), ("check", ""),
                     ("check", "redis://127.0.0.1:1")):
    os.environ["REDIS_URL"] = url
    main(command.split())
    sys.stderr.write(f"{'hiredis' in sys.modules}\\n")
"""


def test_the_client_of_redis_is_imported_only_where_redis_is_used(tmp_path: Path) -> None:
    env = environment(VARIABLES)
    command = [sys.executable, "-c", IMPORTED]
    ended = subprocess.run(
        command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True
    )
    found = [line for line in ended.stderr.splitlines() if line in {"True", "False"}]
    assert found == ["False", "False", "True"]


def test_help_lists_the_commands(capfd: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capfd.readouterr().out
    for word in ("serve", "check", "token", "revoke", "config.example.env"):
        assert word in out

"""The command line: what each command prints, and the status it exits with."""

import json
import socket
from pathlib import Path
from time import time

import jwt
import pytest

from server.cli.main import main
from server.config.settings import VARIABLES as NAMES
from tests.process import run, serving
from tests.support import SECRET, VARIABLES

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the tests' variables, and stand in a folder of our own."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def payload(token: str) -> dict[str, object]:
    """Read a token that was printed."""
    claims: dict[str, object] = jwt.decode(token.strip(), SECRET, algorithms=["HS256"])
    return claims


# --- faults of the configuration -----------------------------------------------------------------

COMMANDS = ["", "serve", "check", "check --json", "token --patient x", "revoke --jti x"]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_on_a_configuration_that_does_not_hold(
    command: str, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    monkeypatch.setenv("PORT", "marked-value")
    monkeypatch.setenv("RATE_LIMIT", "marked-value")
    monkeypatch.delenv("VAPI_API_KEY")
    with pytest.raises(SystemExit) as caught:
        main(command.split())
    assert caught.value.code == 78
    out, err = capfd.readouterr()
    assert out == ""
    told = [line.split(":")[0] for line in err.splitlines()[1:-1]]
    assert told == ["PORT", "RATE_LIMIT", "VAPI_API_KEY"]
    assert "marked-value" not in err


@pytest.mark.parametrize("command", ["", "check", "token --patient x", "revoke --patient x"])
async def test_the_process_exits_with_78_and_without_a_stack_trace(
    command: str, tmp_path: Path
) -> None:
    ended = await run(tmp_path, {"PORT": "marked-value"}, *command.split())
    assert ended.status == 78
    assert ended.out == ""
    lines = ended.err.splitlines()
    for name in ("PORT", "VAPI_API_KEY", "VAPI_ASSISTANT_ID", "JWT_SECRET"):
        assert len([line for line in lines if line.startswith(f"{name}: ")]) == 1
    assert "Traceback" not in ended.err
    assert "marked-value" not in ended.err


async def test_the_process_never_falls_into_development_mode(tmp_path: Path) -> None:
    ended = await run(tmp_path, {})
    assert ended.status == 78


# --- misuse ----------------------------------------------------------------------------------


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
    ],
)
def test_misuse_is_told_with_the_usage(command: str, capfd: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        main(command.split())
    assert caught.value.code == 2
    assert "usage: python -m server" in capfd.readouterr().err


def test_help_lists_the_commands(capfd: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capfd.readouterr().out
    for word in ("serve", "check", "token", "revoke", "config.example.env"):
        assert word in out


# --- token -----------------------------------------------------------------------------------


def test_a_token_is_printed_alone_and_lives_an_hour(capfd: Captured) -> None:
    assert main(["token", "--patient", "pt_7"]) == 0
    claims = payload(capfd.readouterr().out)
    assert (claims["id"], claims["type"]) == ("pt_7", "patient")
    assert abs(float(str(claims["exp"])) - time() - 3600) < 60


@pytest.mark.parametrize(
    ("longest", "asked", "seconds"),
    [("0", None, 3600), ("0", "60", 60), ("90", None, 90), ("90.5", None, 90), ("90", "60", 60)],
)
def test_a_token_lives_as_long_as_asked_and_allowed(
    longest: str,
    asked: str | None,
    seconds: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Captured,
) -> None:
    monkeypatch.setenv("JWT_MAX_LIFETIME_SECONDS", longest)
    assert main(["token", "--patient", "pt_7", *(["--for", asked] if asked else [])]) == 0
    claims = payload(capfd.readouterr().out)
    assert float(str(claims["exp"])) - float(str(claims["iat"])) == seconds


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (["--patient", "a b"], {}, "1 to 128 characters"),
        (["--patient", ""], {}, "1 to 128 characters"),
        (["--patient", "x", "--for", "91"], {"JWT_MAX_LIFETIME_SECONDS": "90"}, "JWT_MAX_LIFETIME"),
        (
            ["--patient", "x"],
            {"JWT_SECRET": "", "JWT_JWKS_URL": "https://id.test", "JWT_ISSUER": "us"},
            "JWT_SECRET",
        ),
    ],
)
def test_a_token_that_would_not_be_granted_is_not_made(
    arguments: list[str],
    variables: dict[str, str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Captured,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["token", *arguments]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert told in err
    assert len(err.splitlines()) == 1


# --- check -----------------------------------------------------------------------------------


def test_a_check_that_holds_says_so_and_exits_with_0(capfd: Captured) -> None:
    assert main(["check"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", "configuration"],
        ["ok", "vapi"],
        ["ok", "keys"],
        ["ok", "redis"],
    ]


def test_a_check_that_does_not_hold_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    monkeypatch.setenv("VAPI_CHECK_SECONDS", "30")
    monkeypatch.setenv("VAPI_BASE_URL", "http://127.0.0.1:1")
    assert main(["check", "--json"]) == 1
    answer = json.loads(capfd.readouterr().out)
    assert answer["ok"] is False
    assert {part["part"]: part["ok"] for part in answer["parts"]} == {
        "configuration": True,
        "vapi": False,
        "keys": True,
        "redis": True,
    }


# --- serve -----------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))
        assert main(["serve"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "Cannot serve on 127.0.0.1 port" in line


@pytest.mark.parametrize("arguments", [[], ["serve"]])
async def test_the_process_serves_until_it_is_told_to_leave(
    arguments: list[str], tmp_path: Path
) -> None:
    async with serving(tmp_path, VARIABLES, *arguments) as served:
        ended = await served.terminate()
    assert ended.status == 0
    assert "shutting down" in ended.err

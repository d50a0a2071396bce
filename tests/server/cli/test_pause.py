"""`python -m server pause` and `resume`: what they write to Redis, and their misuse."""

import asyncio
from time import time

import pytest

from rig.redis_server import RedisServer
from server.cli.main import main
from server.policies.pause import PAUSE_KEY, decode_pause


async def run(*arguments: str) -> int:
    return await asyncio.to_thread(main, arguments)


@pytest.mark.redis
async def test_pause_without_an_end_until_resume(
    redis_server: RedisServer, configured: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configured.setenv("REDIS_URL", redis_server.url)
    assert await run("pause", "--reason", "Vapi incident") == 0
    assert await redis_server.execute("TTL", PAUSE_KEY) == "-1"
    pause = decode_pause((await redis_server.execute("GET", PAUSE_KEY)).encode())
    assert (pause.until, pause.reason) == (None, "Vapi incident")
    assert [await run("resume"), await run("resume")] == [0, 0]
    assert await redis_server.execute("EXISTS", PAUSE_KEY) == "0"
    assert capsys.readouterr().out.splitlines() == [
        "paused until `resume`",
        "resumed",
        "there was no pause",
    ]


@pytest.mark.redis
async def test_pause_with_an_end_expires(
    redis_server: RedisServer, configured: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configured.setenv("REDIS_URL", redis_server.url)
    assert await run("pause", "--for", "90", "--reason", "a\udcff\n\x1bb") == 0
    assert capsys.readouterr().out == "paused for 90 seconds\n"
    assert 60 < int(await redis_server.execute("TTL", PAUSE_KEY)) <= 90
    pause = decode_pause((await redis_server.execute("GET", PAUSE_KEY)).encode())
    assert pause.reason == r"a\udcff\u000a\u001bb"
    assert pause.until is not None
    assert 60 < pause.until - time() <= 90
    assert await run("pause") == 0
    assert await redis_server.execute("TTL", PAUSE_KEY) == "-1"


@pytest.mark.redis
async def test_resume_does_not_lift_the_setting(
    redis_server: RedisServer, configured: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configured.setenv("REDIS_URL", redis_server.url)
    configured.setenv("SESSIONS_PAUSED", "true")
    assert await run("resume") == 0
    assert capsys.readouterr().out.splitlines() == [
        "there was no pause",
        "sessions stay paused: SESSIONS_PAUSED is true",
    ]


@pytest.mark.parametrize(
    ("command", "done"), [("pause", "Nothing was paused"), ("resume", "Nothing was resumed")]
)
@pytest.mark.parametrize(
    ("url", "reason"),
    [("", "set REDIS_URL"), ("redis://127.0.0.1:1", "Redis failed (ConnectionRefusedError)")],
)
async def test_without_redis_nothing_is_done(
    configured: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    done: str,
    url: str,
    reason: str,
) -> None:
    configured.setenv("REDIS_URL", url)
    assert await run(command) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{done}: {reason}")


@pytest.mark.parametrize(
    "arguments",
    [["--for"], *(["--for", each] for each in ("0", "-1", "1.5", "1h", "\u0661")), ["--reason"]],
    ids=" ".join,
)
async def test_misuse_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        await run("pause", *arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err

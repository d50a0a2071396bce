"""`python -m server revoke`: what it writes to Redis, and its misuse."""

import asyncio

import pytest

from rig.redis_server import RedisServer
from server.cli.main import main
from tests.revocation_keys import patient_key, token_key

UNREACHABLE = "redis://127.0.0.1:1"


async def revoke(*arguments: str) -> int:
    return await asyncio.to_thread(main, ["revoke", *arguments])


@pytest.mark.redis
@pytest.mark.parametrize(
    ("variables", "arguments", "key", "seconds"),
    [
        ({}, ["--jti", "t1", "--for", "60"], token_key("t1"), 60),
        ({}, ["--jti", "t1"], token_key("t1"), 366 * 86400),
        ({}, ["--patient", "pt_1"], patient_key("pt_1"), 366 * 86400),
        # The leeway counts twice: at `iat` and at `exp`.
        (
            {"JWT_MAX_LIFETIME_SECONDS": "3600", "JWT_LEEWAY_SECONDS": "7.5"},
            ["--jti", "t1"],
            token_key("t1"),
            3615,
        ),
    ],
)
async def test_entry_expires_after_the_time_that_is_printed(
    redis_server: RedisServer,
    configured: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    arguments: list[str],
    key: bytes,
    seconds: int,
) -> None:
    for name, value in {**variables, "REDIS_URL": redis_server.url}.items():
        configured.setenv(name, value)
    assert await revoke(*arguments) == 0
    assert capsys.readouterr().out == f"revoked for {seconds} seconds\n"
    assert await redis_server.execute("DBSIZE") == "3"  # the entry, the index and the line
    assert seconds - 30 < int(await redis_server.execute("TTL", key)) <= seconds


@pytest.mark.redis
@pytest.mark.parametrize(
    ("failure", "reason"), [("stopped", "ConnectionRefusedError"), ("full", "OOM")]
)
async def test_failure_of_redis_is_reported(
    redis_server: RedisServer,
    configured: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure: str,
    reason: str,
) -> None:
    configured.setenv("REDIS_URL", redis_server.url)
    if failure == "stopped":
        await redis_server.stop()
    else:
        await redis_server.execute("CONFIG", "SET", "maxmemory", "1")
    assert await revoke("--jti", "t1") == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"Nothing was revoked: Redis failed ({reason}); check REDIS_URL\n")


@pytest.mark.parametrize(
    ("url", "arguments", "advice"),
    [
        ("", ["--jti", "t1"], "set REDIS_URL"),
        (UNREACHABLE, ["--jti", ""], "a token id cannot be empty"),
        *[
            (UNREACHABLE, ["--patient", patient], "not a valid patient id")
            for patient in ("", "pt 1", "pt_1\n", "\udcff", "x" * 129)
        ],
    ],
)
async def test_what_cannot_be_revoked(
    configured: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
    arguments: list[str],
    advice: str,
) -> None:
    configured.setenv("REDIS_URL", url)
    assert await revoke(*arguments) == 1
    assert advice in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--jti"],
        ["--jti", "t1", "--patient", "pt_1"],
        ["--jti", "t1", "--for", "0"],
        ["--jti", "t1", "--for", "-5"],
        ["--jti", "t1", "--for", "1000000001"],
        ["--jti", "t1", "--for", "soon"],
    ],
    ids=" ".join,
)
async def test_misuse_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        await revoke(*arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err

"""`python -m server revoke`: what an operator types, and that every process heeds it."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession

from server.cli.main import main
from server.redis.revocation_list import patient_key, token_key
from tests.redis_server import RedisServer
from tests.support import PATH, VARIABLES, claims, sign

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Set the variables of a configuration that holds."""
    monkeypatch.chdir(tmp_path)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


async def revoke(*arguments: str) -> int:
    return await asyncio.to_thread(main, ["revoke", *arguments])


async def seconds_left(redis_server: RedisServer, key: bytes) -> int:
    return int(await redis_server.client.ttl(key))


@pytest.mark.redis
@pytest.mark.parametrize(
    ("variables", "arguments", "seconds"),
    [
        pytest.param({}, ["--jti", "t1", "--for", "60"], 60, id="as long as told"),
        pytest.param({}, ["--jti", "t1"], 366 * 86400, id="a year"),
        pytest.param(
            {"JWT_MAX_LIFETIME_SECONDS": "3600", "JWT_LEEWAY_SECONDS": "7.5"},
            ["--jti", "t1"],
            3615,
            id="as long as a token lives, and the leeway on both ends",
        ),
    ],
)
async def test_a_token_is_revoked_for(
    redis_server: RedisServer,
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    arguments: list[str],
    seconds: int,
) -> None:
    for name, value in {**variables, "REDIS_URL": redis_server.url}.items():
        environment.setenv(name, value)
    assert await revoke(*arguments) == 0
    assert capsys.readouterr().out == f"revoked for {seconds} seconds\n"
    assert seconds - 30 < await seconds_left(redis_server, token_key("t1")) <= seconds


@pytest.mark.redis
async def test_a_patient_is_revoked(
    redis_server: RedisServer, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("REDIS_URL", redis_server.url)
    assert await revoke("--patient", "pt_1") == 0
    assert await seconds_left(redis_server, patient_key("pt_1")) > 0
    assert await redis_server.client.dbsize() == 1


@pytest.mark.redis
async def test_a_redis_that_does_not_take_it_is_told_and_exits_1(
    redis_server: RedisServer,
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await redis_server.stop()
    environment.setenv("REDIS_URL", redis_server.url)
    assert await revoke("--jti", "t1") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "Nothing was revoked" in told.err
    assert "REDIS_URL" in told.err


async def test_without_redis_there_is_nowhere_to_revoke(capsys: pytest.CaptureFixture[str]) -> None:
    assert await revoke("--jti", "t1") == 1
    assert "REDIS_URL" in capsys.readouterr().err


@pytest.mark.parametrize("patient", ["", "pt 1", "pt_1\n", "\udcff", "x" * 129])
async def test_an_id_that_no_token_can_carry_is_a_slip_and_told(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], patient: str
) -> None:
    environment.setenv("REDIS_URL", "redis://127.0.0.1:1")
    assert await revoke("--patient", patient) == 1
    assert "not a valid patient id" in capsys.readouterr().err


async def test_a_token_without_an_id_cannot_be_revoked_by_it(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("REDIS_URL", "redis://127.0.0.1:1")
    assert await revoke("--jti", "") == 1
    assert "a token id cannot be empty" in capsys.readouterr().err


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


@asynccontextmanager
async def process(redis_server: RedisServer) -> AsyncIterator[str]:
    """Run the service as a process of its own; give its address."""
    variables = {**os.environ, "REDIS_URL": redis_server.url, "PYTHONPATH": str(ROOT)}
    serving = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", env=variables, stdout=PIPE, stderr=PIPE
    )
    try:
        yield f"http://127.0.0.1:{await port_of(serving)}"
    finally:
        serving.terminate()
        await serving.communicate()


async def port_of(serving: Process) -> int:
    assert serving.stderr is not None
    lines = []
    while line := (await serving.stderr.readline()).decode():
        lines.append(line)
        if " port " in line:
            return int(line.split(" port ")[1].split('"')[0])
    pytest.fail("".join(lines))


@pytest.mark.redis
async def test_revoking_takes_effect_on_every_process_at_once(
    redis_server: RedisServer, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("REDIS_URL", redis_server.url)
    headers = {"Authorization": f"Bearer {sign(claims(jti='t1'))}"}
    async with (
        process(redis_server) as first,
        process(redis_server) as second,
        ClientSession(headers=headers) as client,
    ):

        async def statuses() -> list[int]:
            answers = [await client.post(url + PATH) for url in (first, second)]
            return [answer.status for answer in answers]

        assert await statuses() == [200, 200]
        assert await revoke("--jti", "t1") == 0
        assert await statuses() == [401, 401]

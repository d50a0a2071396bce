"""Commands for Redis in the documents: each is run as it is written."""

import asyncio
import os
import re
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rig.redis_server import RedisServer
from rig.service import VARIABLES
from rig.vapi import StandIn, vapi
from rig.waiting import eventually
from server.cli.main import main
from tests.calls import CALL_VARIABLES
from tests.conftest import Serve
from tests.revocation_keys import patient_key, token_key
from tests.server.redis.support import code, reports

pytestmark = pytest.mark.redis

ROOT = Path(__file__).parents[3]


def block(path: str, text: str) -> str:
    """Return the block of code in a document that contains a text, without its indentation."""
    blocks = re.findall(r"(?ms)^( *)```\w*\n(.*?)^ *```$", (ROOT / path).read_text())
    ((indent, code),) = [each for each in blocks if text in each[1]]
    return re.sub(f"^{indent}", "", str(code), flags=re.MULTILINE)


async def shell(script: str, redis_server: RedisServer) -> str:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", script), env={**os.environ, "REDIS_URL": redis_server.url}, stdout=PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().strip()


async def test_upgrade_copies_the_revocations_of_1_0_with_their_expiry(
    redis_server: RedisServer, serve: Serve
) -> None:
    names = [b"jti:t1", b"jti:a b\n{x}*", b"patient:pt_1", *[b"jti:%d" % n for n in range(2500)]]
    for start in range(0, len(names), 500):
        keys = [b"vapi-sessions:revoked:" + name for name in names[start : start + 500]]
        await redis_server.execute("MSET", *[word for key in keys for word in (key, b"1")])
    await redis_server.execute("EXPIRE", "vapi-sessions:revoked:jti:t1", "1000")
    await redis_server.execute("SET", "vapi-sessions:other", "1")
    script = block("CHANGELOG.md", "EVAL")
    assert await shell(script, redis_server) == str(len(names))
    assert 990 < int(await redis_server.execute("TTL", token_key("t1"))) <= 1000
    assert await redis_server.execute("TTL", token_key("a b\n{x}*")) == "-1"
    assert await redis_server.execute("EXISTS", patient_key("pt_1")) == "1"
    assert await redis_server.execute("DBSIZE") == str(2 * len(names) + 1)
    assert await shell(script, redis_server) == "0"
    service = await serve(REDIS_URL=redis_server.url)
    assert await code(service, id="pt_2", jti="t1") == "AUTH_TOKEN_REVOKED"


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with vapi() as running:
        yield running


async def test_documented_permissions_are_enough(
    redis_server: RedisServer,
    serve: Serve,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    stand_in: StandIn,
) -> None:
    command = block("docs/operations.md", "ACL SETUSER").replace("PASSWORD", "secret").split()
    await redis_server.execute(*command)
    url = redis_server.url.replace("://", "://vapi-sessions:secret@") + "/1"
    monkeypatch.chdir(tmp_path)
    for name, value in {**VARIABLES, "REDIS_URL": url}.items():
        monkeypatch.setenv(name, value)
    calls = {**CALL_VARIABLES, "CALL_MONITOR": "enforce", "VAPI_BASE_URL": stand_in.url}
    service = await serve(REDIS_URL=url, RATE_LIMIT="1/hour", CALL_MONITOR_SECONDS="1", **calls)
    await reports(service, "up")

    async def calls_are_read() -> bool:
        return bool((await service.ask("GET", "/readyz")).json["parts"]["calls"] == "up")

    await eventually(calls_are_read)
    assert [await code(service), await code(service)] == [None, "RATE_LIMITED"]
    for arguments, patient, expected in (
        (["revoke", "--patient", "pt_2"], "pt_2", "AUTH_TOKEN_REVOKED"),
        (["pause"], "pt_3", "VAPI_SESSION_FAILED"),
        (["resume"], "pt_4", None),
    ):
        assert await asyncio.to_thread(main, arguments) == 0
        assert await code(service, id=patient) == expected
    for arguments in (["revocations"], ["unrevoke", "--patient", "pt_2"]):
        assert await asyncio.to_thread(main, arguments) == 0
    written: list[str] = []

    async def are_written() -> bool:
        out = capfd.readouterr().out
        written.extend(re.findall(r'"event":"vapi_admin".*"action":"(\w+)".*"seq"', out))
        return len(written) == 4

    await eventually(are_written)
    assert written == ["revoke", "pause", "resume", "unrevoke"]

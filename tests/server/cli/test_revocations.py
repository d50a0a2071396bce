"""`unrevoke` and `revocations`, patient ids from standard input, and hashed ids in Redis."""

import asyncio
import io
import json
import sys

import pytest

from rig.redis_server import RedisServer
from server.cli.main import main
from server.policies.revocations import INDEX_KEY, KEY_PREFIX, PatientNames
from tests.conftest import Serve
from tests.revocation_keys import patient_key, token_key
from tests.server.redis.support import code, reports

KEY, OTHER_KEY = "k" * 32, "o" * 32


@pytest.fixture
def configured_redis(configured: pytest.MonkeyPatch, redis_server: RedisServer) -> str:
    configured.setenv("REDIS_URL", redis_server.url)
    return redis_server.url


async def command(*arguments: str) -> int:
    return await asyncio.to_thread(main, list(arguments))


@pytest.mark.redis
@pytest.mark.parametrize(
    ("option", "name", "key"),
    [("--jti", "t1", token_key("t1")), ("--patient", "pt_1", patient_key("pt_1"))],
)
async def test_revocation_is_listed_until_it_is_lifted(
    configured_redis: str,
    redis_server: RedisServer,
    capsys: pytest.CaptureFixture[str],
    option: str,
    name: str,
    key: bytes,
) -> None:
    assert configured_redis
    assert await command("revoke", option, name, "--for", "60") == 0
    assert await redis_server.execute("EXISTS", key) == "1"
    capsys.readouterr()
    assert await command("revocations", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found.pop("until").endswith("Z")
    assert found == {"jti": None, "patient": None, option.removeprefix("--"): name}
    assert await command("revocations") == 0
    assert capsys.readouterr().out.split()[2:] == [
        "token" if option == "--jti" else "patient",
        name,
    ]
    for text in ("no longer revoked\n", "there was no revocation\n"):
        assert await command("unrevoke", option, name) == 0
        assert capsys.readouterr().out == text
    assert await redis_server.execute("DBSIZE") == "1"  # the lines for the audit log
    assert await command("revocations") == 0
    assert capsys.readouterr().out == "nothing is revoked\n"


@pytest.mark.redis
@pytest.mark.parametrize("size", [10, 3000])
async def test_list_is_read_in_pages_without_what_has_ended(
    configured_redis: str,
    redis_server: RedisServer,
    capsys: pytest.CaptureFixture[str],
    size: int,
) -> None:
    assert configured_redis
    name = "'jti:' .. i .. string.rep('x', ARGV[1])"
    fill = f"for i = 1, 500 do redis.call('ZADD', KEYS[1], 4e9 + i, {name}) end"
    await redis_server.execute("EVAL", fill, "1", INDEX_KEY, str(size))
    await redis_server.execute("ZADD", INDEX_KEY, "1", "jti:ended", "5000000000", "jti:a\nb")
    assert await command("revocations", "--json") == 0
    found = [each["jti"] for each in json.loads(capsys.readouterr().out)]
    assert found == [*(f"{number}{'x' * size}" for number in range(1, 501)), "a\nb"]
    assert await command("revocations") == 0
    assert capsys.readouterr().out.endswith('token "a\\nb"\n')


@pytest.mark.redis
@pytest.mark.parametrize(
    ("written", "settings"),
    [
        ({}, {"AUDIT_HASH_KEY": KEY}),
        ({"AUDIT_HASH_KEY": KEY}, {"AUDIT_HASH_KEY": KEY}),
        ({"AUDIT_HASH_KEY": KEY}, {"AUDIT_HASH_KEY": OTHER_KEY, "AUDIT_HASH_KEY_PREVIOUS": KEY}),
        ({"AUDIT_HASH_KEY": KEY}, {"AUDIT_HASH_KEY_PREVIOUS": KEY}),
    ],
    ids=["clear", "hashed", "rotated", "switched off"],
)
async def test_revocation_counts_under_each_form_of_the_id(
    configured: pytest.MonkeyPatch,
    configured_redis: str,
    redis_server: RedisServer,
    serve: Serve,
    written: dict[str, str],
    settings: dict[str, str],
) -> None:
    for name, value in written.items():
        configured.setenv(name, value)
    assert await command("revoke", "--patient", "pt_1") == 0
    service = await serve(REDIS_URL=configured_redis, RATE_LIMIT="5/hour", **settings)
    await reports(service, "up")
    assert await code(service, id="pt_1") == "AUTH_TOKEN_REVOKED"
    assert await code(service, id="pt_2") is None
    keys = await redis_server.execute("KEYS", "*")
    assert ("pt_1" in keys) == (not written)
    assert ("pt_2" in keys) == ("AUDIT_HASH_KEY" not in settings)
    for name in ("AUDIT_HASH_KEY", "AUDIT_HASH_KEY_PREVIOUS"):
        configured.setenv(name, settings.get(name, ""))
    assert await command("unrevoke", "--patient", "pt_1") == 0
    assert await code(service, id="pt_1") is None


def test_forms_of_an_id() -> None:
    assert PatientNames().all("pt_1") == [b"patient:pt_1"]
    hashed = PatientNames(b"k" * 32, b"o" * 32).all("pt_1")
    assert [len(each) for each in hashed] == [77, 77, 12]
    assert len(set(hashed)) == 3
    assert KEY_PREFIX + hashed[2] == patient_key("pt_1")


@pytest.mark.redis
async def test_patient_id_is_read_from_standard_input(
    configured_redis: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configured_redis
    for name, line, exists in (("revoke", b"pt_1\n", "1"), ("unrevoke", b"pt_1\r\n", "0")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line)))
        assert await command(name, "--patient", "-") == 0
        assert await redis_server.execute("EXISTS", patient_key("pt_1")) == exists
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n")))
    assert await command("revoke", "--patient", "-") == 1


@pytest.mark.parametrize("url", ["", "redis://127.0.0.1:1"])
@pytest.mark.parametrize("arguments", [["revocations"], ["unrevoke", "--jti", "t1"]])
async def test_commands_fail_without_redis(
    configured: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
    arguments: list[str],
) -> None:
    configured.setenv("REDIS_URL", url)
    assert await command(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "REDIS_URL" in err

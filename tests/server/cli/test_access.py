"""`revoke`, `unrevoke`, `revocations`, `pause` and `resume`: what they print and write to Redis."""

import io
import json
import sys
from time import time

import pytest

from rig.redis_server import RedisServer
from server.policies.pause import PAUSE_KEY, decode_pause
from server.policies.revocations import INDEX_KEY, KEY_PREFIX, PatientNames
from tests.conftest import Command, Serve
from tests.revocation_keys import patient_key, token_key
from tests.server.redis.support import code, reports

KEY, OTHER_KEY = "k" * 32, "o" * 32
UNREACHABLE = "redis://127.0.0.1:1"


@pytest.fixture
def redis_url(configured: pytest.MonkeyPatch, redis_server: RedisServer) -> str:
    """Use a Redis of the test in all commands."""
    configured.setenv("REDIS_URL", redis_server.url)
    return redis_server.url


@pytest.mark.redis
@pytest.mark.usefixtures("redis_url")
@pytest.mark.parametrize(
    ("variables", "arguments", "key", "seconds"),
    [
        ({}, ["--jti", "t1", "--for", "60"], token_key("t1"), 60),
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
async def test_revocation_is_listed_until_it_is_lifted(
    command: Command,
    redis_server: RedisServer,
    variables: dict[str, str],
    arguments: list[str],
    key: bytes,
    seconds: int,
) -> None:
    ended = await command("revoke", *arguments, **variables)
    assert (ended.status, ended.out) == (0, f"revoked for {seconds} seconds\n")
    assert await redis_server.execute("DBSIZE") == "3"  # the entry, the index and the audit line
    assert seconds - 30 < int(await redis_server.execute("TTL", key)) <= seconds
    (found,) = json.loads((await command("revocations", "--json")).out)
    assert found.pop("until").endswith("Z")
    option, name = arguments[:2]
    assert found == {"jti": None, "patient": None, option.removeprefix("--"): name}
    kind = "token" if option == "--jti" else "patient"
    assert (await command("revocations")).out.split()[2:] == [kind, name]
    for text in ("no longer revoked\n", "there was no revocation\n"):
        ended = await command("unrevoke", option, name)
        assert (ended.status, ended.out) == (0, text)
    assert await redis_server.execute("DBSIZE") == "1"
    assert (await command("revocations")).out == "nothing is revoked\n"


@pytest.mark.redis
@pytest.mark.usefixtures("redis_url")
@pytest.mark.parametrize("size", [10, 3000])
async def test_list_is_read_in_pages_without_what_has_ended(
    command: Command, redis_server: RedisServer, size: int
) -> None:
    name = "'jti:' .. i .. string.rep('x', ARGV[1])"
    fill = f"for i = 1, 500 do redis.call('ZADD', KEYS[1], 4e9 + i, {name}) end"
    await redis_server.execute("EVAL", fill, "1", INDEX_KEY, str(size))
    await redis_server.execute("ZADD", INDEX_KEY, "1", "jti:ended", "5000000000", "jti:a\nb")
    found = [each["jti"] for each in json.loads((await command("revocations", "--json")).out)]
    assert found == [*(f"{number}{'x' * size}" for number in range(1, 501)), "a\nb"]
    assert (await command("revocations")).out.endswith('token "a\\nb"\n')


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
    command: Command,
    redis_url: str,
    redis_server: RedisServer,
    serve: Serve,
    written: dict[str, str],
    settings: dict[str, str],
) -> None:
    assert (await command("revoke", "--patient", "pt_1", **written)).status == 0
    service = await serve(REDIS_URL=redis_url, RATE_LIMIT="5/hour", **settings)
    await reports(service, "up")
    assert await code(service, id="pt_1") == "AUTH_TOKEN_REVOKED"
    assert await code(service, id="pt_2") is None
    keys = await redis_server.execute("KEYS", "*")
    assert ("pt_1" in keys) == (not written)
    assert ("pt_2" in keys) == ("AUDIT_HASH_KEY" not in settings)
    forms = {name: settings.get(name, "") for name in ("AUDIT_HASH_KEY", "AUDIT_HASH_KEY_PREVIOUS")}
    assert (await command("unrevoke", "--patient", "pt_1", **forms)).status == 0
    assert await code(service, id="pt_1") is None


def test_forms_of_an_id() -> None:
    assert PatientNames().all("pt_1") == [b"patient:pt_1"]
    hashed = PatientNames(b"k" * 32, b"o" * 32).all("pt_1")
    assert [len(each) for each in hashed] == [77, 77, 12]
    assert len(set(hashed)) == 3
    assert KEY_PREFIX + hashed[2] == patient_key("pt_1")


@pytest.mark.redis
@pytest.mark.usefixtures("redis_url")
async def test_patient_id_is_read_from_standard_input(
    command: Command, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, line, exists in (("revoke", b"pt_1\n", "1"), ("unrevoke", b"pt_1\r\n", "0")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line)))
        assert (await command(name, "--patient", "-")).status == 0
        assert await redis_server.execute("EXISTS", patient_key("pt_1")) == exists
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n")))
    assert (await command("revoke", "--patient", "-")).status == 1


@pytest.mark.redis
@pytest.mark.usefixtures("redis_url")
async def test_pause_until_resume(command: Command, redis_server: RedisServer) -> None:
    ended = await command("pause", "--for", "90", "--reason", "a\udcff\n\x1bb")
    assert (ended.status, ended.out) == (0, "paused for 90 seconds\n")
    assert 60 < int(await redis_server.execute("TTL", PAUSE_KEY)) <= 90
    pause = decode_pause((await redis_server.execute("GET", PAUSE_KEY)).encode())
    assert pause.reason == r"a\udcff\u000a\u001bb"
    assert pause.until is not None
    assert 60 < pause.until - time() <= 90
    assert (await command("pause", "--reason", "Vapi incident")).out == "paused until `resume`\n"
    assert await redis_server.execute("TTL", PAUSE_KEY) == "-1"
    pause = decode_pause((await redis_server.execute("GET", PAUSE_KEY)).encode())
    assert (pause.until, pause.reason) == (None, "Vapi incident")
    assert (await command("resume")).out == "resumed\n"
    assert await redis_server.execute("EXISTS", PAUSE_KEY) == "0"
    ended = await command("resume", SESSIONS_PAUSED="true")
    assert (ended.status, ended.out.splitlines()) == (
        0,
        ["there was no pause", "sessions stay paused: SESSIONS_PAUSED is true"],
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [("", "set REDIS_URL"), (UNREACHABLE, "Redis failed (ConnectionRefusedError)")],
)
@pytest.mark.parametrize(
    ("arguments", "done"),
    [
        (["revoke", "--jti", "t1"], "revoked"),
        (["unrevoke", "--jti", "t1"], "changed"),
        (["revocations"], "listed"),
        (["pause"], "paused"),
        (["resume"], "resumed"),
    ],
    ids=" ".join,
)
async def test_without_redis_nothing_is_done(
    command: Command, arguments: list[str], done: str, url: str, reason: str
) -> None:
    ended = await command(*arguments, REDIS_URL=url)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith(f"Nothing was {done}: {reason}")
    assert "REDIS_URL" in ended.err


@pytest.mark.redis
@pytest.mark.usefixtures("redis_url")
async def test_redis_that_takes_no_entry(command: Command, redis_server: RedisServer) -> None:
    await redis_server.execute("CONFIG", "SET", "maxmemory", "1")
    ended = await command("revoke", "--jti", "t1")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == "Nothing was revoked: Redis failed (OOM); check REDIS_URL\n"


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--jti", ""], "a token id cannot be empty"),
        *[
            (["--patient", patient], "this is not a valid patient id")
            for patient in ("", "pt 1", "pt_1\n", "\udcff", "x" * 129)
        ],
    ],
)
async def test_what_cannot_be_revoked(command: Command, arguments: list[str], advice: str) -> None:
    ended = await command("revoke", *arguments, REDIS_URL=UNREACHABLE)
    assert (ended.status, ended.err) == (1, f"Nothing was revoked: {advice}\n")

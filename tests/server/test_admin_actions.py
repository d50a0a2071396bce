"""What operators did: a line on standard error, and one in the audit log of a process."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from hmac import new as hmac
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rig.redis_server import RedisServer
from rig.service import sign
from rig.waiting import eventually
from server import admin_actions
from server.admin_actions import (
    ACTIONS_KEY,
    ActionChannel,
    admin_record,
    report,
    write_waiting_actions,
)
from server.observability.audit_log import MAX_LINE, AuditLog
from server.redis.client import RedisState
from server.redis.connection import RedisDown, RedisReplyError
from tests.conftest import AuditLines, Command, Serve
from tests.server.redis.support import reaches, running

FIELDS = ["event", "timestamp", "action", "actor", "host"]
FIELDS += ["patient", "jti", "until", "reason", "changed"]
HASH_KEY = "k" * 32


@pytest.fixture
def operator(configured: pytest.MonkeyPatch, redis_server: RedisServer) -> pytest.MonkeyPatch:
    configured.setenv("REDIS_URL", redis_server.url)
    configured.setenv("SUDO_USER", "ada")
    return configured


@dataclass
class Written:
    """An audit log that runs, and the file that it writes."""

    audit_log: AuditLog
    path: Path

    async def has_lines(self) -> bool:
        return bool(self.lines())

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
async def written(tmp_path: Path) -> AsyncIterator[Written]:
    with (tmp_path / "audit").open("wb") as file:
        audit_log = AuditLog(file.fileno())
        audit_log.start()
        yield Written(audit_log, tmp_path / "audit")
        await audit_log.stop(5)


@pytest.fixture
def channel() -> ActionChannel:
    return ActionChannel()


@asynccontextmanager
async def in_background(run: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run until the end of the context; it must end by being cancelled."""
    task = asyncio.create_task(run)
    yield task
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def waiting(redis_server: RedisServer) -> int:
    return int(await redis_server.execute("LLEN", ACTIONS_KEY))


@pytest.mark.redis
async def test_each_action_has_a_line(
    operator: pytest.MonkeyPatch, redis_server: RedisServer, command: Command
) -> None:
    operator.setenv("AUDIT_HASH_KEY", HASH_KEY)
    commands: list[list[str]] = [
        ["revoke", "--patient", "pt_1", "--for", "60"],
        ["revoke", "--jti", "token-1", "--for", "60"],
        ["unrevoke", "--jti", "token-1"],
        ["pause", "--reason", "incident\n" + "x" * 500],
        ["resume"],
    ]
    ended = [await command(*arguments) for arguments in commands]
    assert [each.status for each in ended] == [0] * 5
    patient, token, lifted, pause, resume = lines = [json.loads(each.err) for each in ended]
    assert all(list(line) == FIELDS for line in lines)
    assert [line["action"] for line in lines] == [arguments[0] for arguments in commands]
    assert {(line["actor"], line["host"]) for line in lines} == {("ada", socket.gethostname())}
    hashed = hmac(HASH_KEY.encode(), b"pt_1", sha256).hexdigest()
    assert (patient["patient"], patient["jti"]) == (hashed, None)
    assert (token["patient"], token["jti"]) == (None, "token-1")
    assert (lifted["jti"], lifted["until"]) == ("token-1", None)
    assert patient["until"] > patient["timestamp"]
    assert (pause["until"], pause["reason"]) == (None, "incident\n" + "x" * 491)
    assert [resume[name] for name in FIELDS[5:]] == [None] * 5
    assert await waiting(redis_server) == 5
    assert 86000 < int(await redis_server.execute("TTL", ACTIONS_KEY)) <= 86400


@pytest.mark.redis
async def test_one_process_writes_the_line_to_the_audit_log(
    redis_server: RedisServer,
    serve: Serve,
    audit_lines: AuditLines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin_actions, "_POLL_SECONDS", 0.01)
    await report(redis_server.url, admin_record("pause", reason="incident"))
    services = [await serve(REDIS_URL=redis_server.url) for _ in range(2)]
    await report(redis_server.url, admin_record("resume"))
    lines: list[dict[str, Any]] = []

    async def are_written() -> bool:
        lines.extend(audit_lines())
        return len(lines) >= 2

    await eventually(are_written)
    assert await waiting(redis_server) == 0
    assert sorted((line["event"], line["action"]) for line in lines) == [
        ("vapi_admin", "pause"),
        ("vapi_admin", "resume"),
    ]
    assert all(list(line) == [*FIELDS, "instance", "seq"] for line in lines)
    assert (await services[0].start(sign())).status == 200


@pytest.mark.redis
async def test_at_most_1000_lines_wait(
    operator: pytest.MonkeyPatch, redis_server: RedisServer, command: Command
) -> None:
    await redis_server.execute("RPUSH", ACTIONS_KEY, *[b"%d" % number for number in range(1000)])
    assert (await command("resume")).status == 0
    assert await waiting(redis_server) == 1000
    assert await redis_server.execute("LINDEX", ACTIONS_KEY, "0") == "1"


@pytest.mark.redis
async def test_redis_that_does_not_take_the_line(
    operator: pytest.MonkeyPatch,
    redis_server: RedisServer,
    command: Command,
    capfd: pytest.CaptureFixture[str],
) -> None:
    await redis_server.execute("SET", ACTIONS_KEY, "not a list")
    ended = await command("resume")
    assert ended.status == 0
    assert '"action":"resume"' in ended.err
    err = ended.err

    async def is_told() -> bool:  # by a thread
        nonlocal err
        err += capfd.readouterr().err
        return "the audit log does not get this action: Redis failed" in err

    await eventually(is_told)


@pytest.mark.redis
async def test_what_is_not_an_action_is_dropped(
    redis_server: RedisServer,
    written: Written,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin_actions, "_POLL_SECONDS", 0.01)
    forged = b'{"event":"vapi_session_start","timestamp":"t","action":"a","actor":"b","host":"c"}'
    junk = [b"", b"{}", b"\xff", b'{"event":1}', b'"' + b"x" * 5000 + b'"', forged[:-1], forged]
    await redis_server.execute("RPUSH", ACTIONS_KEY, *junk)
    async with running(redis_server.url) as client:
        await reaches(client, RedisState.UP)
        async with in_background(write_waiting_actions(client.execute, written.audit_log)):
            await eventually(written.has_lines)
    assert [line["event"] for line in written.lines()] == ["vapi_admin"]
    assert [record.levelname for record in caplog.records if "dropped" in record.message] == [
        "WARNING"
    ] * 6


async def test_missing_permission_is_logged_once(
    written: Written, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_actions, "_POLL_SECONDS", 0.001)
    caplog.set_level("INFO")
    calls = 0

    async def execute(*_: object, seconds: float) -> bytes | None:
        nonlocal calls
        calls += 1
        if calls in {2, 3, 4, 6}:
            raise RedisReplyError("NOPERM this user has no permissions")
        if calls == 7:
            raise RedisDown
        return None

    async def is_done() -> bool:
        return calls > 8

    async with in_background(write_waiting_actions(execute, written.audit_log)):
        await eventually(is_done)
    assert [record.getMessage() for record in caplog.records] == [
        "Redis forbids LPOP (NOPERM): the audit log misses actions"
    ] * 2


async def test_lines_stay_in_redis_while_the_audit_log_is_not_written() -> None:
    audit_log = AuditLog(-1)
    audit_log.start()
    audit_log.write(b'{"a":1}')

    async def is_failing() -> bool:
        return audit_log.state == "failing"

    await eventually(is_failing)

    async def execute(*_: object, seconds: float) -> bytes | None:
        raise AssertionError

    async with in_background(write_waiting_actions(execute, audit_log)) as task:
        await asyncio.sleep(0.05)
        assert not task.done()
    await audit_log.stop(0)


async def test_one_worker_gets_a_record_of_the_master(
    channel: ActionChannel, written: Written
) -> None:
    channel.send(admin_record("reload_refused"))
    async with in_background(channel.run(written.audit_log)):
        await eventually(written.has_lines)
        channel.send(admin_record("reload", changed=["RATE_LIMIT"]))
        channel._read(written.audit_log)
        channel._read(written.audit_log)  # as a worker that another was faster than
        await written.audit_log.stop(5)
    lines = written.lines()
    assert [(line["action"], line["changed"], line["seq"]) for line in lines] == [
        ("reload_refused", None, 1),
        ("reload", ["RATE_LIMIT"], 2),
    ]


def test_records_that_no_worker_takes(
    channel: ActionChannel, caplog: pytest.LogCaptureFixture
) -> None:
    while not caplog.records:
        channel.send(admin_record("reload_refused"))
    assert [each.getMessage() for each in caplog.records] == [
        "the audit log does not get this action: no worker takes it"
    ]


@pytest.mark.parametrize(
    ("sudo", "user", "expected"), [("ada", "root", "ada"), ("", "bob", "bob"), ("", None, "1234")]
)
def test_actor(monkeypatch: pytest.MonkeyPatch, sudo: str, user: str | None, expected: str) -> None:
    def find_user() -> str:
        if user is None:
            raise KeyError
        return user

    monkeypatch.setenv("SUDO_USER", sudo)
    monkeypatch.setattr("getpass.getuser", find_user)
    monkeypatch.setattr("os.getuid", lambda: 1234)
    assert admin_record("resume").actor == expected


def test_a_text_is_cut_and_fits_into_a_line() -> None:
    assert admin_record("pause", reason="a\udcff").reason == "a?"
    line = msgspec.json.encode(admin_record("pause", reason="\x01" * 1000))
    assert 3000 < len(line) <= MAX_LINE

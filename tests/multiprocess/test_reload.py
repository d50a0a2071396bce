"""SIGHUP: the master of gunicorn reloads the configuration if it is valid."""

import json
import os
import signal
from pathlib import Path
from time import monotonic

from rig.process import TWO_WORKERS, Running
from rig.service import SECRET, sign
from rig.waiting import eventually
from rig.wire import connected, exchange, post, read_answer, start_request
from tests.multiprocess.conftest import Start
from tests.multiprocess.support import Load

NONE = {"VAPI_PUBLIC_API_KEY": "", "RATE_LIMIT": "", "JWT_SECRET": ""}  # these come from files


def write(folder: Path, **variables: str) -> None:
    """Write `.env` with these variables, and with the others that the service needs."""
    lines = {"VAPI_PUBLIC_API_KEY": "first", "JWT_SECRET_FILE": "secret", "RATE_LIMIT": "off"}
    text = "".join(f"{name}={value}\n" for name, value in {**lines, **variables}.items())
    (folder / ".env").write_text(text)


async def key(service: Running, secret: str = SECRET) -> str:
    """Return the key of the credential that a request gets, or the code of its error."""
    token = sign(key=secret)
    reply = await exchange(service, post(b"", token=token))
    return str(reply.json["data"]["apiKey"] if reply.status == 200 else reply.json["error"]["code"])


async def keys(service: Running, secret: str = SECRET) -> set[str]:
    """Return the distinct results of 20 requests, of which each worker answers some."""
    return {await key(service, secret) for _ in range(20)}


async def reload(service: Running) -> None:
    """Reload, and wait until the workers have been replaced."""
    before = len(service.log.matching("Worker exiting"))
    service.process.send_signal(signal.SIGHUP)

    async def replaced() -> bool:
        return len(service.log.matching("Worker exiting")) == before + 2

    await eventually(replaced)


async def test_invalid_configuration_is_logged_and_changes_nothing(
    start: Start, tmp_path: Path
) -> None:
    write(tmp_path)
    (tmp_path / "secret").write_text(SECRET)
    service = await start(TWO_WORKERS, **NONE)
    write(tmp_path, VAPI_PUBLIC_API_KEY="second", RATE_LIMIT="often", MAX_BODY_BYTES="x")
    (tmp_path / "secret").unlink()
    service.process.send_signal(signal.SIGHUP)
    for name in ("RATE_LIMIT: must be N/second", "MAX_BODY_BYTES: ", "JWT_SECRET_FILE: "):
        await service.log.find(name)
    assert "often" not in "\n".join(service.log.lines)
    assert "Traceback" not in "\n".join(service.log.lines)
    assert await keys(service) == {"first"}
    assert service.log.matching("Worker exiting") == []

    # Workers that are restarted use the last valid configuration as well.
    for worker in service.workers():
        os.kill(worker, signal.SIGKILL)
    await eventually(lambda: has_booted(service, 4))
    assert await keys(service) == {"first"}

    write(tmp_path, VAPI_PUBLIC_API_KEY="third")
    (tmp_path / "secret").write_text(SECRET[::-1])
    await reload(service)
    assert await keys(service, SECRET[::-1]) == {"third"}
    assert await keys(service) == {"AUTH_TOKEN_INVALID"}
    service.process.terminate()
    assert await service.left() == 0


async def test_files_that_are_half_written_switch_nothing_off(start: Start, tmp_path: Path) -> None:
    write(tmp_path, JWT_AUDIENCE="voice")
    (tmp_path / "secret").write_text(SECRET)
    service = await start(TWO_WORKERS, **NONE, JWT_AUDIENCE="")
    whole = (tmp_path / ".env").read_text()
    assert await keys(service) == {"AUTH_TOKEN_INVALID"}  # these tokens have another audience
    for cut, reason in (
        (whole.partition("JWT_AUDIENCE")[0], "reload refused, .*: JWT_AUDIENCE: is missing"),
        (whole.rstrip("ice\n"), "reload refused, .*: .env: does not end with a line break"),
    ):
        (tmp_path / ".env").write_text(cut)
        service.process.send_signal(signal.SIGHUP)
        await service.log.find(reason)
    (tmp_path / ".env").write_text(whole)
    (tmp_path / "secret").write_text("")
    service.process.send_signal(signal.SIGHUP)
    await service.log.find("invalid configuration, .*: JWT_SECRET_FILE: the file is empty")
    assert service.log.matching("Worker exiting") == []
    assert await keys(service) == {"AUTH_TOKEN_INVALID"}

    (tmp_path / "secret").write_text(SECRET)
    write(tmp_path, JWT_AUDIENCE="", PORT="1")
    await reload(service)
    assert await keys(service) == {"first"}
    await service.log.find("configuration reloaded; changed: JWT_AUDIENCE")
    assert len(service.log.matching("JWT_AUDIENCE: this reload makes it weaker than before")) == 1
    await service.audit.find('"action":"reload",')
    actions = [json.loads(line) for line in service.audit.matching('"event":"vapi_admin"')]
    assert [(line["action"], line["changed"]) for line in actions] == [
        *[("reload_refused", None)] * 3,
        ("reload", ["JWT_AUDIENCE"]),
    ]
    assert all(line["instance"] and line["seq"] for line in actions)


async def has_booted(service: Running, count: int) -> bool:
    return len(service.workers()) == count


async def test_no_request_is_lost_by_reloads(start: Start) -> None:
    service = await start(TWO_WORKERS, RATE_LIMIT="off", SHUTDOWN_GRACE_SECONDS="5")
    load = Load(service, enough=500)
    async with load.running(clients=8, sparse=60):
        for _ in range(2):
            await reload(service)
        service.process.terminate()
    assert await service.left() == 0
    assert load.lost == []
    assert set(load.statuses) == {200}


async def test_sigterm_during_a_reload_ends_within_the_grace(start: Start) -> None:
    service = await start(TWO_WORKERS, SHUTDOWN_GRACE_SECONDS="10", SESSION_BUDGET_SECONDS="60")
    request = start_request()
    async with connected(service) as (reader, writer), connected(service) as idle:
        writer.write(request[:-1])  # the reload waits for the worker of this request
        service.process.send_signal(signal.SIGHUP)
        await eventually(lambda: has_booted(service, 4))
        began = monotonic()
        service.process.terminate()
        assert await idle[0].read() == b""
        writer.write(request[-1:])
        assert (await read_answer(reader)).status == 200
        assert await service.left() == 0
        assert monotonic() - began < 10

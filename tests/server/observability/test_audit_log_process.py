"""The audit log of real processes whose standard output is blocked, full, closed or shared."""

import asyncio
import fcntl
import json
import os
import re
from asyncio import gather
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from aiohttp import ClientSession

from rig.process import ALONE, GUNICORN, ONE_WORKER, ROOT, Running, environment, started
from rig.service import PATH, VARIABLES, claims, sign
from rig.waiting import eventually
from tests.multiprocess.support import EITHER
from tests.server.observability.pipes import Pipe, pipe

GRACE = 8.0


@dataclass
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> str | None:
        return None if self.status == 200 else str(self.body["error"]["code"])


@dataclass
class Service:
    """A service with a standard output of our own."""

    running: Running
    client: ClientSession
    token: str
    count: int = 0

    async def start(self, count: int = 1) -> dict[str, Answer]:
        """Send requests for sessions, one after the other; return the answers by request id."""
        answers = {}
        for _ in range(count):
            self.count += 1
            id_ = f"{self.count}".rjust(128, "0")
            headers = {"X-Request-ID": id_, "Authorization": f"Bearer {self.token}"}
            async with self.client.post(self.running.url + PATH, headers=headers) as response:
                body = await response.json()
                answers[id_] = Answer(response.status, dict(response.headers), body)
        return answers

    async def start_pipelined(self, count: int, token: str | None = None) -> dict[str, bytes]:
        """Send requests over one connection without waiting; return the responses by request id."""
        names = [f"{number}".rjust(128, "0") for number in range(self.count, self.count + count)]
        self.count += count
        reader, writer = await asyncio.open_connection("127.0.0.1", self.running.port)
        for name in names:
            writer.write(
                f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {name}\r\n"
                f"Authorization: Bearer {token or self.token}\r\n\r\n".encode()
            )
        responses: dict[str, bytes] = {}
        for name in names:
            head = await reader.readuntil(b"\r\n\r\n")
            (size,) = re.findall(rb"Content-Length: (\d+)", head)
            assert f"X-Request-ID: {name}\r\n".encode() in head
            responses[name] = head + await reader.readexactly(int(size))
        writer.close()
        await writer.wait_closed()
        return responses

    async def get(self, path: str) -> Answer:
        async with self.client.get(self.running.url + path) as response:
            body = await response.text()
            parsed = json.loads(body) if body.startswith("{") else body
            return Answer(response.status, dict(response.headers), parsed)

    async def has_state(self, status: str, audit: str) -> bool:
        readiness = (await self.get("/readyz")).body
        return (readiness["status"], readiness["parts"]["audit"]) == (status, audit)

    async def terminate(self) -> float:
        """Close all connections, and send SIGTERM; return the seconds until the end."""
        await self.client.close()
        began = monotonic()
        assert (await self.running.terminate()).status == 0
        return monotonic() - began

    def records(self) -> list[tuple[str, str]]:
        """Return level and message of the log records about the audit log."""
        records = [json.loads(line) for line in self.running.log.lines if line.startswith("{")]
        return [(r["level"], r["message"]) for r in records if "audit l" in r["message"]]


@asynccontextmanager
async def serving(
    command: Sequence[str], folder: Path, stdout: int, **variables: str
) -> AsyncIterator[Service]:
    """Serve with this descriptor as standard output."""
    more = {"RATE_LIMIT": "off", "METRICS_ENABLED": "true", "SHUTDOWN_GRACE_SECONDS": f"{GRACE}"}
    async with (
        started(command, folder, {**VARIABLES, **more, **variables}, stdout=stdout) as running,
        ClientSession() as client,
    ):
        yield Service(running, client, sign(claims(id="p" * 128)))


@pytest.fixture
def output() -> Iterator[Pipe]:
    with pipe() as made:
        yield made


def ids(lines: Sequence[bytes]) -> list[str]:
    """Return the request ids of whole lines, which may tell of dropped lines, too."""
    assert all(line.endswith(b"\n") for line in lines)
    records = [json.loads(line) for line in lines]
    return [each["request_id"] for each in records if each["event"] != "vapi_audit_dropped"]


@pytest.mark.parametrize("cause", ["full", "reader closed", "closed"])
async def test_output_that_fails(tmp_path: Path, output: Pipe, cause: str) -> None:
    command: Sequence[str] = ALONE
    stdout = output.writer
    if cause == "full":
        stdout = os.open("/dev/full", os.O_WRONLY)
        os.dup2(stdout, output.writer)
    if cause == "closed":
        command = ("sh", "-c", 'exec "$@" >&-', "sh", *ALONE)
    async with serving(command, tmp_path, stdout) as service:
        os.close(output.reader)
        [first] = (await service.start()).values()
        assert first.status == 200
        await eventually(partial(service.has_state, "degraded", "failing"))
        for answer in (await service.start(20)).values():
            assert (answer.status, answer.code) == (503, "AUDIT_UNAVAILABLE")
            assert int(answer.headers["Retry-After"]) > 0
        assert (await service.get("/healthz")).status == 200
        metrics = str((await service.get("/metrics")).body)
        assert "vapi_sessions_audit_lines_waiting 21.0" in metrics
        assert await service.terminate() < GRACE
        [(begin, _), (end, lost)] = service.records()
        assert (begin, end) == ("WARNING", "ERROR")
        assert lost.startswith("21 audit lines were lost")


async def test_blocked_reader(tmp_path: Path, output: Pipe) -> None:
    output.fill()
    async with serving(ALONE, tmp_path, output.writer) as service:
        answers = await service.start(100)
        assert {answer.status for answer in answers.values()} == {200}
        await eventually(partial(service.has_state, "degraded", "blocked"))
        assert (await service.get("/healthz")).status == 200
        more = await service.start(100)
        reading = asyncio.create_task(asyncio.to_thread(output.read_rest))
        await eventually(partial(service.has_state, "ready", "up"))
        assert await service.terminate() < GRACE
        assert sorted(ids(await reading)) == sorted({**answers, **more})
        levels = [level for level, _ in service.records()]
        assert levels in (["WARNING", "INFO"], ["WARNING", "WARNING", "INFO", "INFO"])


async def test_termination_while_the_reader_is_blocked(tmp_path: Path, output: Pipe) -> None:
    output.fill()
    async with serving(ONE_WORKER, tmp_path, output.writer) as service:
        answers = await service.start(100)
        assert {answer.status for answer in answers.values()} == {200}
        assert await service.terminate() < GRACE
        lost = [int(message.split()[0]) for level, message in service.records() if level == "ERROR"]
        written = ids(output.read_rest())
        assert len(written) + sum(lost) == 100
        assert set(written) <= set(answers)


async def test_full_queue(tmp_path: Path, output: Pipe) -> None:
    """Refusals are dropped before a patient is refused, and nothing else is lost."""
    output.fill()
    async with serving(ALONE, tmp_path, output.writer) as service:

        async def send(token: str | None = None) -> dict[str, bytes]:
            parts = await gather(*(service.start_pipelined(100, token) for _ in range(16)))
            return {id_: response for part in parts for id_, response in part.items()}

        metrics = ""
        while not re.search(r"audit_refusals_dropped_total [1-9]", metrics):
            await send("forged")
            metrics = str((await service.get("/metrics")).body)
        assert "vapi_sessions_audit_lines_lost_total 0.0" in metrics
        granted, refused = set[str](), set[str]()
        while not refused:
            for id_, response in (await send()).items():
                is_granted = response.startswith(b"HTTP/1.1 200 ")
                assert is_granted or b'"AUDIT_UNAVAILABLE"' in response
                (granted if is_granted else refused).add(id_)
        assert granted
        assert (await service.get("/healthz")).status == 200
        assert await service.has_state("degraded", "blocked")
        reading = asyncio.create_task(asyncio.to_thread(output.read_rest))
        await eventually(partial(service.has_state, "ready", "up"))
        [(last, answer)] = (await service.start()).items()
        assert answer.status == 200
        assert await service.terminate() < GRACE
    lines = [json.loads(line) for line in await reading]
    assert [line["seq"] for line in lines] == [*range(1, len(lines) + 1)]
    written = {line["request_id"] for line in lines if line.get("outcome") == "granted"}
    assert written == {*granted, last}
    dropped = sum(line["count"] for line in lines if line["event"] == "vapi_audit_dropped")
    assert sum("request_id" in line for line in lines) + dropped == service.count


@pytest.mark.parametrize("blocking", [True, False])
async def test_workers_that_share_a_pipe_do_not_mix_their_lines(
    tmp_path: Path, output: Pipe, *, blocking: bool
) -> None:
    fcntl.fcntl(output.writer, fcntl.F_SETPIPE_SZ, 4096)  # the workers always compete for it
    os.set_blocking(output.writer, blocking)
    async with serving((*GUNICORN, "4"), tmp_path, output.writer) as service:
        reading = asyncio.create_task(asyncio.to_thread(output.read_rest))
        batches = await asyncio.gather(*(service.start(50) for _ in range(20)))
        assert await service.terminate() < GRACE
        answers = {id_: answer for batch in batches for id_, answer in batch.items()}
        assert {answer.status for answer in answers.values()} == {200}
        assert sorted(ids(await reading)) == sorted(answers)


@EITHER
async def test_blocked_standard_error_blocks_nothing(
    tmp_path: Path, output: Pipe, unused_tcp_port: int, command: Sequence[str]
) -> None:
    output.fill()
    (tmp_path / "gunicorn.conf.py").symlink_to(ROOT / "gunicorn.conf.py")
    variables = {**VARIABLES, "PORT": f"{unused_tcp_port}", "SHUTDOWN_GRACE_SECONDS": f"{GRACE}"}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, env=environment(variables), stdout=DEVNULL, stderr=output.writer
    )

    async def answers(request: bytes, status: bytes) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
        except ConnectionRefusedError:
            return False
        writer.write(request)
        line = await reader.readline()
        writer.close()
        return status in line

    health = partial(answers, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b" 200 ")
    try:
        await eventually(health)
        for _ in range(20):
            assert await answers(b"malformed\r\n\r\n", b" 400 ")  # which is logged
        assert await health()
        process.terminate()
        async with asyncio.timeout(GRACE):
            assert await process.wait() == 0
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await asyncio.to_thread(output.read_rest)  # unblocks a service that is blocked
        await process.wait()

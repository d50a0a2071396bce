"""The audit log inside the service: the order of checks, concurrent requests, mounting."""

import asyncio
import json
from collections.abc import Iterator, Sequence

import pytest
from aiohttp import web

from rig.service import Service, claims, make_settings, sign
from server.app import mount
from server.observability.audit_log import AuditLog
from tests.conftest import Serve
from tests.server.observability.pipes import Pipe, pipe
from tests.table import NOWHERE


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """Replace standard output by a pipe that is full."""
    with pipe() as made:
        made.fill()
        monkeypatch.setattr("server.components.standard_output", lambda: made.writer)
        yield made


async def refuse(service: Service, token: str | None) -> str | None:
    answer = await service.start(token, headers={"Origin": "https://app.test"})
    assert answer.status != 200
    return answer.code


async def test_audit_is_checked_last(
    serve: Serve, output: Pipe, audit_logs: Sequence[AuditLog]
) -> None:
    origin = {"CORS_ALLOWED_ORIGINS": "https://app.test"}
    vapi_down = {"VAPI_CHECK_SECONDS": "30", "VAPI_BASE_URL": f"http://{NOWHERE}"}
    services = [
        await serve(**origin),
        await serve(**origin, **vapi_down),
        await serve(**origin, SESSIONS_PAUSED="true"),
    ]
    for audit_log in audit_logs:
        audit_log._limit = 0
    assert await refuse(services[0], None) == "AUTH_TOKEN_MISSING"
    assert await refuse(services[0], sign(claims(type="doctor"))) == "FORBIDDEN"
    assert await refuse(services[1], sign()) == "VAPI_SESSION_FAILED"
    assert await refuse(services[2], sign()) == "VAPI_SESSION_FAILED"
    answer = await services[0].start(sign(), headers={"Origin": "https://app.test"})
    assert (answer.status, answer.code) == (503, "AUDIT_UNAVAILABLE")
    assert answer.response.headers["Retry-After"] == "5"
    assert answer.response.headers["Access-Control-Allow-Origin"] == "https://app.test"
    assert answer.response.headers["X-Request-ID"]


async def test_concurrent_requests_get_no_more_sessions_than_lines(
    serve: Serve, output: Pipe, audit_logs: Sequence[AuditLog]
) -> None:
    service = await serve(RATE_LIMIT="off")
    audit_logs[0]._limit = 10_000
    token = sign()

    async def start(number: int) -> int:
        return (await service.start(token, headers={"X-Request-ID": f"{number}"})).status

    statuses = await asyncio.gather(*(start(number) for number in range(100)))
    assert set(statuses) == {200, 503}
    kept = audit_logs[0].waiting_lines
    assert kept + audit_logs[0].lost_lines + audit_logs[0].dropped_refusals == 100
    lines = output.read_lines(kept)
    granted = {json.loads(line)["request_id"] for line in lines if b'"granted"' in line}
    assert granted == {f"{number}" for number, status in enumerate(statuses) if status == 200}


async def test_mounted_audit_log_ends_with_the_host(audit_logs: Sequence[AuditLog]) -> None:
    app = web.Application()
    mount(app, make_settings())
    runner = web.AppRunner(app)
    await runner.setup()
    [audit_log] = audit_logs
    assert not audit_log._writer.is_finished
    await runner.cleanup()
    assert audit_log._writer.is_finished


async def test_blocked_output_delays_the_cleanup_for_a_share_of_the_grace(
    serve: Serve, output: Pipe, audit_logs: Sequence[AuditLog]
) -> None:
    service = await serve()
    assert (await service.start(sign())).status == 200
    async with asyncio.timeout(10):
        await audit_logs[0].stop(0.1)
    assert audit_logs[0].lost_lines == 1
    output.read()  # ends the thread

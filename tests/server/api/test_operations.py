"""The operator's routes."""

import pytest

from sandbox.vapi.behaviour import Behaviour, Fault
from server.serving.state import DRAINING
from tests.conftest import AuditLines, Serve
from tests.support import Service, sign
from tests.table import NOWHERE
from tests.wire import vapi


async def test_alive_is_all_that_healthz_tells(service: Service) -> None:
    answer = await service.ask("GET", "/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


async def test_it_is_alive_whatever_others_are(serve: Serve) -> None:
    service = await serve(
        VAPI_CHECK_SECONDS="30",
        VAPI_BASE_URL=f"http://{NOWHERE}",
        REDIS_URL=f"redis://{NOWHERE}",
    )
    assert (await service.ask("GET", "/healthz")).status == 200


async def test_ready_with_every_parts_state(service: Service) -> None:
    answer = await service.ask("GET", "/readyz")
    assert answer.status == 200
    assert answer.json == {
        "status": "ready",
        "parts": {"vapi": "off", "keys": "ready", "redis": "off"},
    }


@pytest.mark.parametrize(
    ("variables", "part", "state", "status"),
    [
        ({"REDIS_URL": f"redis://{NOWHERE}"}, "redis", "down", 503),
        ({"REDIS_URL": f"redis://{NOWHERE}", "REDIS_FAILURE": "serve"}, "redis", "down", 200),
        (
            {"JWT_SECRET": "", "JWT_JWKS_URL": f"http://{NOWHERE}", "JWT_ISSUER": "us"},
            "keys",
            "missing",
            503,
        ),
        ({"VAPI_CHECK_SECONDS": "30", "VAPI_BASE_URL": f"http://{NOWHERE}"}, "vapi", "down", 503),
    ],
)
async def test_ready_only_while_sessions_can_be_had(
    serve: Serve, variables: dict[str, str], part: str, state: str, status: int
) -> None:
    service = await serve(**variables)
    granted = await service.start(sign())  # has the part asked, and its state known
    answer = await service.ask("GET", "/readyz")
    assert (answer.status, answer.json["parts"][part]) == (status, state)
    assert answer.json["status"] == ("ready" if status == 200 else "not ready")
    assert (granted.status == 200) == (status == 200)


@pytest.mark.parametrize(("fault", "state"), [(401, "misconfigured"), (500, "down"), (200, "up")])
async def test_ready_follows_vapi(serve: Serve, fault: int, state: str) -> None:
    async with vapi(Behaviour(Fault.STATUS, status=fault)) as stand_in:
        service = await serve(VAPI_BASE_URL=stand_in.url, VAPI_CHECK_SECONDS="30")
        await service.start(sign())
        answer = await service.ask("GET", "/readyz")
    assert answer.json["parts"]["vapi"] == state
    assert answer.status == (200 if fault == 200 else 503)


async def test_while_shutting_down_it_is_alive_but_not_ready(service: Service) -> None:
    service.app[DRAINING].set()
    answer = await service.ask("GET", "/readyz")
    assert (answer.status, answer.json["status"]) == (503, "shutting down")
    assert (await service.ask("GET", "/healthz")).status == 200
    assert (await service.start(sign())).status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
async def test_head_is_get_without_the_body(service: Service, path: str) -> None:
    whole, bare = await service.ask("GET", path), await service.ask("HEAD", path)
    assert (bare.status, bare.body) == (200, b"")
    for name in ("Content-Length", "Content-Type", "Cache-Control"):
        assert bare.response.headers[name] == whole.response.headers[name]


async def test_metrics_are_there_only_when_asked_for(serve: Serve) -> None:
    without, with_ = await serve(), await serve(METRICS_ENABLED="true")
    assert (await without.ask("GET", "/metrics")).code == "NOT_FOUND"
    await with_.start(sign())
    await with_.start()
    answer = await with_.ask("GET", "/metrics")
    assert answer.status == 200
    assert answer.response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.body.decode()
    assert 'vapi_sessions_requests_total{code="",status="200"} 1.0' in text
    assert 'vapi_sessions_requests_total{code="AUTH_TOKEN_MISSING",status="401"} 1.0' in text
    assert "pt_1" not in text


async def test_the_operators_routes_write_no_audit_lines(
    service: Service, audit_lines: AuditLines
) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json", "/nowhere"):
        await service.ask("GET", path)
    assert audit_lines() == []

"""The operational routes."""

import pytest
from aiohttp import web

from rig.issuer import issuing
from rig.redis_server import RedisServer
from rig.service import Service, sign
from rig.vapi import vapi
from rig.waiting import eventually
from rig.wire import dial, head
from sandbox.vapi.behaviour import Behaviour, Fault
from server.api.operations import add_metrics
from server.observability.metrics import Metrics
from server.serving.server import INTERFACE
from tests.conftest import AuditLines, Serve
from tests.table import NOWHERE


async def test_healthz_does_not_depend_on_upstreams(serve: Serve) -> None:
    service = await serve(
        VAPI_CHECK_SECONDS="30",
        VAPI_BASE_URL=f"http://{NOWHERE}",
        REDIS_URL=f"redis://{NOWHERE}",
    )
    answer = await service.ask("GET", "/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


async def test_ready(service: Service) -> None:
    answer = await service.ask("GET", "/readyz")
    assert answer.status == 200
    assert answer.json == {
        "status": "ready",
        "parts": {"vapi": "off", "keys": "ready", "redis": "off", "audit": "up", "calls": "off"},
    }


JWKS = {"JWT_SECRET": "", "JWT_JWKS_URL": f"http://{NOWHERE}", "JWT_ISSUER": "us"}
REDIS = {"REDIS_URL": f"redis://{NOWHERE}"}
VAPI = {"VAPI_CHECK_SECONDS": "30", "VAPI_BASE_URL": f"http://{NOWHERE}"}


@pytest.mark.parametrize(
    ("variables", "part", "state", "status"),
    [
        (REDIS, "redis", "down", "degraded"),
        ({**REDIS, "REDIS_FAILURE": "serve"}, "redis", "down", "degraded"),
        (VAPI, "vapi", "down", "degraded"),
        (JWKS, "keys", "missing", "starting"),
    ],
)
async def test_unreachable_upstream(
    serve: Serve, variables: dict[str, str], part: str, state: str, status: str
) -> None:
    service = await serve(**variables)
    await service.start(sign())  # waits until the state is known
    answer = await service.ask("GET", "/readyz")
    assert (answer.json["parts"][part], answer.json["status"]) == (state, status)
    assert answer.status == (503 if status == "starting" else 200)


@pytest.mark.parametrize(
    ("first", "second", "state", "status"),
    [
        (200, None, "up", "ready"),
        (500, None, "down", "degraded"),
        (401, None, "misconfigured", "starting"),
        (401, 500, "down", "degraded"),
        (401, 200, "up", "ready"),
        (200, 401, "misconfigured", "degraded"),
        (500, 404, "misconfigured", "degraded"),
    ],
)
async def test_started_once_vapi_has_accepted_the_configuration(
    serve: Serve, first: int, second: int | None, state: str, status: str
) -> None:
    async with vapi(Behaviour(Fault.STATUS, status=first)) as stand_in:
        service = await serve(VAPI_BASE_URL=stand_in.url, VAPI_CHECK_SECONDS="0.05")
        await service.start(sign())
        if second is not None:
            stand_in.behave(Behaviour(Fault.STATUS, status=second))
        await eventually_is(service, status, f"vapi={state}")


async def eventually_is(service: Service, expected: str, parts: str) -> None:
    """Wait until `/readyz` reports this status, its HTTP status, and this state of a part."""
    name, state = parts.split("=")

    async def is_reported() -> bool:
        answer = await service.ask("GET", "/readyz")
        assert answer.status == (503 if answer.json["status"] == "starting" else 200)
        return bool(answer.json["status"] == expected and answer.json["parts"][name] == state)

    await eventually(is_reported)


async def test_started_once_the_keys_have_been_available(serve: Serve) -> None:
    async with issuing() as issuer:
        await issuer.go_down()
        service = await serve(
            **issuer.variables, JWKS_CACHE_SECONDS="0.05", JWKS_STALE_SECONDS="0.5"
        )
        await eventually_is(service, "starting", "keys=missing")
        await issuer.come_up()
        await eventually_is(service, "ready", "keys=ready")
        await issuer.go_down()
        await eventually_is(service, "degraded", "keys=stale")
        await eventually_is(service, "degraded", "keys=missing")
        await issuer.come_up()
        await eventually_is(service, "ready", "keys=ready")


@pytest.mark.redis
async def test_started_unless_redis_rejects_the_credentials(
    serve: Serve, redis_server: RedisServer
) -> None:
    await redis_server.set_password("secret")
    service = await serve(REDIS_URL=redis_server.url)
    await eventually_is(service, "starting", "redis=rejected")
    await redis_server.set_password("")
    await eventually_is(service, "ready", "redis=up")
    await redis_server.set_password("secret")
    await redis_server.drop_connections()
    await eventually_is(service, "degraded", "redis=rejected")


async def test_readyz_while_shutting_down(service: Service) -> None:
    service.app[INTERFACE].shutting_down.set()
    answer = await service.ask("GET", "/readyz")
    assert (answer.status, answer.json["status"]) == (503, "shutting down")
    assert (await service.ask("GET", "/healthz")).status == 200
    assert (await service.start(sign())).status == 200


async def test_head_is_get_without_a_body(service: Service) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json"):
        whole, bare = await service.ask("GET", path), await service.ask("HEAD", path)
        assert (bare.status, bare.body) == (200, b"")
        for name in ("Content-Length", "Content-Type", "Cache-Control"):
            assert bare.response.headers[name] == whole.response.headers[name]


async def test_metrics_only_when_enabled(serve: Serve) -> None:
    without, with_ = await serve(), await serve(METRICS_ENABLED="true")
    assert (await without.ask("GET", "/metrics")).code == "NOT_FOUND"
    await with_.start(sign())
    await with_.start()
    answer = await with_.ask("GET", "/metrics")
    assert answer.status == 200
    assert answer.response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.body.decode()
    assert (
        'vapi_sessions_requests_total{code="",reason="",route="session",status="200"} 1.0' in text
    )
    missing = 'code="AUTH_TOKEN_MISSING",reason="missing",route="session",status="401"'
    assert f"vapi_sessions_requests_total{{{missing}}} 1.0" in text
    assert "pt_1" not in text


async def test_metrics_name_the_route(serve: Serve) -> None:
    service = await serve(METRICS_ENABLED="true")
    await service.ask("GET", "/healthz")
    await service.ask("GET", "/unknown")
    async with dial(service) as wire:
        await wire.send(head(method="OPTIONS", path="*"))
        assert (await wire.answer()).status == 404
    text = (await service.ask("GET", "/metrics")).body.decode()
    name = "vapi_sessions_requests_total"
    assert f'{name}{{code="",reason="",route="operations",status="200"}} 1.0' in text
    assert f'{name}{{code="NOT_FOUND",reason="",route="other",status="404"}} 2.0' in text


@pytest.mark.parametrize("shared", [True, False])
def test_shared_metrics_are_recorded_after_the_components_have_ended(
    monkeypatch: pytest.MonkeyPatch, *, shared: bool
) -> None:
    app, metrics = web.Application(), Metrics()
    monkeypatch.setattr(metrics, "are_shared", shared)
    app.cleanup_ctx.append(components := Metrics().lifespan)
    add_metrics(app, metrics)
    assert list(app.cleanup_ctx) == [*([metrics.lifespan] if shared else []), components]


async def test_operational_routes_write_no_audit_lines(
    service: Service, audit_lines: AuditLines
) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json", "/nowhere"):
        await service.ask("GET", path)
    assert audit_lines() == []

"""Which pieces there are for which settings, how they are, and that they end with the service."""

import asyncio

import pytest

from server.components import Components
from server.observability.metrics import Metrics
from server.vapi.health import VapiState
from tests.support import make_settings
from tests.table import NOWHERE

JWKS = {"JWT_SECRET": "", "JWT_JWKS_URL": f"http://{NOWHERE}", "JWT_ISSUER": "us"}
REDIS = {"REDIS_URL": f"redis://{NOWHERE}"}


def test_only_what_is_configured_is_there() -> None:
    least = Components(make_settings(RATE_LIMIT="off"))
    assert (least.jwks, least.redis) == (None, None)
    assert least.acquire_rate_limit is None
    assert least.is_revoked is None
    most = Components(make_settings(**JWKS, **REDIS))
    assert most.keys is most.jwks
    assert most.redis is not None
    assert most.acquire_rate_limit is not None
    assert most.is_revoked is not None


@pytest.mark.parametrize(
    ("variables", "states", "serves"),
    [
        ({}, {"vapi": "off", "keys": "ready", "redis": "off"}, True),
        ({"VAPI_CHECK_SECONDS": "1"}, {"vapi": "unknown", "keys": "ready", "redis": "off"}, False),
        (JWKS, {"vapi": "off", "keys": "missing", "redis": "off"}, False),
        (REDIS, {"vapi": "off", "keys": "ready", "redis": "up"}, True),
    ],
)
def test_what_is_not_known_yet_cannot_serve(
    variables: dict[str, str], states: dict[str, str], serves: object
) -> None:
    parts = Components(make_settings(**variables))
    assert parts.states() == states
    assert parts.is_ready() is serves


@pytest.mark.parametrize(("failure", "serves"), [("refuse", False), ("serve", True)])
async def test_without_redis_it_depends_on_the_setting(failure: str, serves: object) -> None:
    parts = Components(make_settings(**REDIS, REDIS_FAILURE=failure))
    assert parts.redis is not None
    await parts.redis.probe()
    assert parts.states()["redis"] == "down"
    assert parts.is_ready() is serves
    await parts.redis.close()


async def test_what_runs_beside_requests_ends_with_them() -> None:
    parts = Components(make_settings(**JWKS, **REDIS, VAPI_CHECK_SECONDS="30"))
    before = asyncio.all_tasks()
    async with parts.running():
        assert len(asyncio.all_tasks() - before) >= 3
    async with asyncio.timeout(10):
        while asyncio.all_tasks() - before:  # noqa: ASYNC110  a fetch under way ends by itself
            await asyncio.sleep(0)


async def test_what_runs_beside_requests_ends_when_they_end_by_a_fault() -> None:
    parts = Components(make_settings(VAPI_CHECK_SECONDS="30", VAPI_BASE_URL=f"http://{NOWHERE}"))
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with parts.running():
            raise ZeroDivisionError
    assert asyncio.all_tasks() == before


async def test_requests_that_redis_failed_are_served_where_nobody_counts_them() -> None:
    parts = Components(make_settings(**REDIS, REDIS_FAILURE="serve"))
    assert parts.acquire_rate_limit is not None
    assert await parts.acquire_rate_limit("pt_1") is None
    assert parts.render_metrics() == b""
    assert parts.redis is not None
    await parts.redis.close()


def test_metrics_tell_the_states_as_they_are() -> None:
    parts = Components(make_settings(VAPI_CHECK_SECONDS="30"), Metrics(vapi_states=VapiState))
    assert 'vapi_sessions_vapi_state{state="unknown"} 1.0' in parts.render_metrics().decode()
    parts.vapi.record_status(200)
    assert parts.vapi.state is VapiState.UP
    text = parts.render_metrics().decode()
    assert 'vapi_sessions_vapi_state{state="up"} 1.0' in text
    assert 'vapi_sessions_vapi_state{state="unknown"} 0.0' in text


async def test_processes_that_share_metrics_note_their_states_without_being_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.components._METRICS_SECONDS", 0)
    metrics = Metrics(vapi_states=VapiState)
    metrics.are_shared = True
    noted = asyncio.Event()
    monkeypatch.setattr(metrics, "record_states", lambda *_, **__: noted.set())
    parts = Components(make_settings(VAPI_CHECK_SECONDS="0"), metrics)
    async with parts.running():
        for _ in range(3):
            await noted.wait()
            noted.clear()

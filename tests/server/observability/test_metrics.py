"""What `/metrics` says of a single process."""

import math
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.observability.metrics import Metrics
from server.vapi.health import VapiState
from tests.conftest import Serve
from tests.support import claims, sign


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Read samples by name and label values."""
    return {
        (sample.name.removeprefix("vapi_sessions_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def test_answers_are_counted_by_status_and_code(serve: Serve) -> None:
    service = await serve(METRICS_ENABLED="true", RATE_LIMIT="2/hour")
    for token in (sign(), sign(), sign(), sign(claims(exp=1)), None):
        await service.start(token)
    found = samples((await service.ask("GET", "/metrics")).body)
    assert found["requests_total", "", "200"] == 2
    assert found["requests_total", "RATE_LIMITED", "429"] == 1
    assert found["requests_total", "AUTH_TOKEN_EXPIRED", "401"] == 1
    assert found["requests_total", "AUTH_TOKEN_MISSING", "401"] == 1
    assert found["request_seconds_count",] == 5


async def test_the_budget_is_a_bucket_of_its_own(serve: Serve) -> None:
    service = await serve(METRICS_ENABLED="true")
    await service.start(sign())
    found = samples((await service.ask("GET", "/metrics")).body)
    assert found["request_seconds_bucket", "3.0"] == 1


async def test_nothing_names_a_patient(serve: Serve) -> None:
    service = await serve(METRICS_ENABLED="true", RATE_LIMIT="1/hour")
    for _ in range(2):
        await service.start(sign(claims(id="pt_who_must_not_be_named")))
    assert b"pt_who" not in (await service.ask("GET", "/metrics")).body


async def test_without_being_asked_for_there_are_none(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "server.observability.metrics.Metrics", None
    )  # nothing that could be called
    service = await serve()
    assert (await service.ask("GET", "/metrics")).code == "NOT_FOUND"


async def test_the_process_tells_what_it_uses(serve: Serve) -> None:
    service = await serve(METRICS_ENABLED="true")
    found = samples((await service.ask("GET", "/metrics")).body)
    assert found["process_resident_memory_bytes",] > 0


async def test_what_is_not_configured_is_not_told_of(serve: Serve) -> None:
    service = await serve(METRICS_ENABLED="true")
    body = (await service.ask("GET", "/metrics")).body
    assert b"jwks_age" not in body
    assert b"redis_up" not in body


@pytest.mark.parametrize("state", list(VapiState))
def test_vapi_is_in_one_state(state: VapiState) -> None:
    metrics = Metrics(vapi_states=VapiState)
    metrics.record_states(VapiState.UNKNOWN)
    metrics.record_states(state)
    found = samples(metrics.render())
    told = {name: value for name, value in found.items() if name[0] == "vapi_state"}
    assert told == {("vapi_state", each): float(each is state) for each in VapiState}


@pytest.mark.parametrize(("age", "told"), [(12.5, 12.5), (0.0, 0.0), (None, math.inf)])
def test_keys_have_an_age_that_is_infinite_while_there_are_none(
    age: float | None, told: float
) -> None:
    metrics = Metrics(vapi_states=VapiState, jwks=True)
    metrics.record_states(VapiState.UP, age)
    assert samples(metrics.render())["jwks_age_seconds",] == told


@pytest.mark.parametrize("up", [True, False])
def test_redis_is_up_or_not(*, up: bool) -> None:
    metrics = Metrics(vapi_states=VapiState, redis=True)
    metrics.record_states(VapiState.UP, redis_up=up)
    assert samples(metrics.render())["redis_up",] == up


def test_requests_that_redis_failed_are_counted() -> None:
    metrics = Metrics(vapi_states=VapiState)
    metrics.record_limiter_failure()
    metrics.record_revocation_failure()
    metrics.record_revocation_failure()
    found = samples(metrics.render())
    assert found["limiter_failures_total",] == 1
    assert found["revocation_failures_total",] == 2


def test_shared_metrics_are_read_from_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    metrics = Metrics(vapi_states=VapiState)
    metrics.record_limiter_failure()
    # This process began alone, and so keeps its own in memory: what is read is what others wrote.
    assert metrics.are_shared
    assert metrics.render() == b""

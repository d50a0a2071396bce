"""The metrics of the components, as `/metrics` reports them."""

import math

import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from rig.issuer import issuing, key
from rig.service import SECRET, make_settings
from server.components import Components, add_component_metrics
from server.observability.metrics import Metrics
from server.redis.client import RedisState
from server.vapi.health import VapiHealth, VapiState
from tests import pems
from tests.table import NOWHERE

JWKS = {"JWT_SECRET": "", "JWT_JWKS_URL": f"http://{NOWHERE}", "JWT_ISSUER": "us"}
REDIS = {"REDIS_URL": f"redis://{NOWHERE}"}


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Read samples by name, without the prefix, and label values."""
    return {
        (sample.name.removeprefix("vapi_sessions_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def reported(components: Components) -> dict[tuple[str, ...], float]:
    metrics = Metrics()
    add_component_metrics(metrics, components)
    return samples(metrics.render())


@pytest.mark.parametrize("state", list(VapiState))
def test_exactly_one_vapi_state_is_one(state: VapiState, monkeypatch: pytest.MonkeyPatch) -> None:
    components = Components(make_settings())
    monkeypatch.setattr(VapiHealth, "state", state)
    found = reported(components)
    states = {name: value for name, value in found.items() if name[0] == "vapi_state"}
    assert states == {("vapi_state", each): float(each is state) for each in VapiState}


def test_metrics_of_optional_components_are_absent_without_them() -> None:
    names = {name for name, *_ in reported(Components(make_settings()))}
    assert not names & {"jwks_age_seconds", "redis_up"}


async def test_jwks_age_is_infinite_without_keys() -> None:
    assert reported(Components(make_settings(**JWKS)))["jwks_age_seconds",] == math.inf


async def test_keys_are_counted() -> None:
    previous, pem = SECRET[::-1], pems.public(pems.P256) + pems.public(pems.RSA)
    static = {"JWT_SECRET_PREVIOUS": previous, "JWT_PUBLIC_KEY": pem}
    assert counted(Components(make_settings(**static))) == (4, 0)
    async with issuing(key("one"), key("two"), key("next", "ES384")) as issuer:
        variables = {**issuer.variables, "JWT_SECRET": SECRET, "JWT_ALGORITHMS": "ES256,HS256"}
        components = Components(make_settings(**variables))
        assert counted(components) == (1, 0)
        assert components.jwks is not None
        async with ClientSession() as session:
            await components.jwks.fetch_once(session)
            assert counted(components) == (3, 1)
            issuer.keys = [key("next", "ES384"), key("other", "ES384")]
            await components.jwks.fetch_once(session)
        assert counted(components) == (3, 2)  # the keys that it had are still used


def counted(components: Components) -> tuple[float, float]:
    found = reported(components)
    return found["keys", "used"], found["keys", "ignored"]


@pytest.mark.parametrize("state", list(RedisState))
def test_redis_is_reported_as_up_or_not(state: RedisState) -> None:
    components = Components(make_settings(**REDIS))
    assert components.redis is not None
    components.redis.state = state
    assert reported(components)["redis_up",] == (state is RedisState.UP)


@pytest.mark.parametrize("paused", ["true", "false"])
def test_pause_is_reported(paused: str) -> None:
    components = Components(make_settings(SESSIONS_PAUSED=paused))
    assert reported(components)["paused",] == (paused == "true")


def test_failures_are_counted() -> None:
    components = Components(make_settings())
    components.limiter_failures()
    components.revocation_failures()
    components.revocation_failures()
    found = reported(components)
    assert found["limiter_failures_total",] == 1
    assert found["revocation_failures_total",] == 2

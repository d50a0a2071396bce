"""The components: which exist, their states, their life cycle."""

import asyncio

import pytest

from rig.service import make_settings
from server import components
from server.components import Components, supervise
from tests.table import NOWHERE

JWKS = {"JWT_SECRET": "", "JWT_JWKS_URL": f"http://{NOWHERE}", "JWT_ISSUER": "us"}
REDIS = {"REDIS_URL": f"redis://{NOWHERE}"}


def test_only_configured_components_exist() -> None:
    least = Components(make_settings(RATE_LIMIT="off"))
    assert (least.jwks, least.redis) == (None, None)
    assert least.acquire_rate_limit is None
    assert least.revocations is None
    most = Components(make_settings(**JWKS, **REDIS))
    assert most.keys is most.jwks
    assert most.redis is not None
    assert most.acquire_rate_limit is not None
    assert most.revocations is not None


@pytest.mark.parametrize(
    ("variables", "states", "has_started"),
    [
        ({}, {"vapi": "off", "keys": "ready", "redis": "off", "audit": "up", "calls": "off"}, True),
        (
            {"VAPI_CHECK_SECONDS": "1"},
            {"vapi": "unknown", "keys": "ready", "redis": "off", "audit": "up", "calls": "off"},
            False,
        ),
        (
            JWKS,
            {"vapi": "off", "keys": "missing", "redis": "off", "audit": "up", "calls": "off"},
            False,
        ),
        (
            REDIS,
            {"vapi": "off", "keys": "ready", "redis": "unknown", "audit": "up", "calls": "off"},
            False,
        ),
    ],
)
def test_initial_states(
    variables: dict[str, str], states: dict[str, str], has_started: object
) -> None:
    components = Components(make_settings(**variables))
    assert components.states() == states
    assert components.has_started() is has_started


@pytest.mark.parametrize("failure", ["refuse", "serve"])
async def test_unreachable_redis_does_not_prevent_the_start(failure: str) -> None:
    components = Components(make_settings(**REDIS, REDIS_FAILURE=failure))
    assert components.redis is not None
    await components.redis.check()
    assert components.states()["redis"] == "down"
    assert components.has_started()


async def test_background_tasks_end_with_the_application() -> None:
    components = Components(make_settings(**JWKS, **REDIS, VAPI_CHECK_SECONDS="30"))
    before = asyncio.all_tasks()
    async with components.running():
        assert len(asyncio.all_tasks() - before) >= 3
    async with asyncio.timeout(10):
        while asyncio.all_tasks() - before:  # noqa: ASYNC110  a fetch in flight ends by itself
            await asyncio.sleep(0)


async def test_background_tasks_end_after_an_error() -> None:
    components = Components(
        make_settings(VAPI_CHECK_SECONDS="30", VAPI_BASE_URL=f"http://{NOWHERE}")
    )
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with components.running():
            raise ZeroDivisionError
    assert asyncio.all_tasks() == before


async def test_task_that_returns_is_not_restarted() -> None:
    runs = []

    async def run() -> None:
        runs.append(1)

    await supervise(run)
    assert len(runs) == 1


async def test_task_that_fails_is_logged_and_restarted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(components, "_RESTART_SECONDS", 0)
    runs = []

    async def run() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise ZeroDivisionError("unforeseen")

    await supervise(run)
    assert len(runs) == 3
    assert caplog.text.count("ZeroDivisionError: unforeseen") == 2

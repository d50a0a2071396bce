"""The JWKS refresher: when it fetches, what it logs, and when withdrawn keys are dropped."""

from logging import ERROR, INFO
from typing import Any

import pytest
from aiohttp import ClientSession, web

from rig.issuer import Issuer
from server.auth.jwks import JwksProvider, JwksRefresher
from tests.server.auth.keys.conftest import CACHE_SECONDS, Clock

LOGGER = "server.auth.jwks"
SYMMETRIC = {"kty": "oct", "k": "c2VjcmV0" * 8, "alg": "HS256"}
GOOD = "good"
FAILED = "failed"
EMPTY: dict[str, Any] = {"keys": []}


@pytest.fixture
def refresher(keys: JwksProvider) -> JwksRefresher:
    return keys._refresher


async def fetch(
    refresher: JwksRefresher, issuer: Issuer, session: ClientSession, response: object
) -> None:
    """Fetch once; the issuer responds with its keys, an error, or any document."""

    async def respond(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500) if response is FAILED else web.json_response(response)

    issuer.respond = None if response is GOOD else respond
    await refresher.fetch_once(session)


async def test_retries_back_off_to_ten_seconds(
    refresher: JwksRefresher,
    issuer: Issuer,
    session: ClientSession,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.http_client.uniform", max)  # no jitter
    delays = []
    for _ in range(7):
        await fetch(refresher, issuer, session, FAILED)
        delays.append(refresher.delay())
    assert delays == [0.5, 1, 2, 4, 8, 10, 10]
    await fetch(refresher, issuer, session, GOOD)
    assert refresher.delay() == CACHE_SECONDS
    clock.now += CACHE_SECONDS
    assert refresher.delay() == 0
    await fetch(refresher, issuer, session, GOOD)
    clock.now += CACHE_SECONDS - 1
    await fetch(refresher, issuer, session, FAILED)
    assert refresher.delay() == 1  # the keys are still fresh
    clock.now += 1
    assert refresher.delay() == 0.5


async def test_outage_is_logged_once_at_begin_and_once_at_end(
    refresher: JwksRefresher,
    issuer: Issuer,
    session: ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    for response in (FAILED, FAILED, EMPTY, EMPTY, GOOD, GOOD):
        await fetch(refresher, issuer, session, response)
    assert caplog.record_tuples == [
        (LOGGER, ERROR, "the JWKS is not available: status 500"),
        (LOGGER, INFO, "the JWKS is available again"),
    ]


async def test_withdrawal_is_logged_once_at_begin_and_once_at_end(
    refresher: JwksRefresher,
    issuer: Issuer,
    session: ClientSession,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    for response in (GOOD, *[EMPTY] * 6, GOOD, GOOD):
        clock.now += CACHE_SECONDS
        await fetch(refresher, issuer, session, response)
    assert caplog.record_tuples == [
        (LOGGER, ERROR, "the JWKS is not available: no usable key"),
        (LOGGER, ERROR, "the JWKS still has no usable key: tokens are answered with 503"),
        (LOGGER, INFO, "the JWKS is available again"),
    ]


@pytest.mark.parametrize(
    ("fetches", "kept"),
    [
        pytest.param([(0, EMPTY), (600, EMPTY)], True, id="twice"),
        pytest.param([(0, EMPTY), (0, EMPTY), (599, EMPTY)], True, id="for too short a time"),
        pytest.param([(0, EMPTY), (0, EMPTY), (600, EMPTY)], False, id="three times"),
        pytest.param(
            [(0, EMPTY), (1, EMPTY), (1, EMPTY), (597, EMPTY), (1, EMPTY)],
            False,
            id="five times, at last for long enough",
        ),
        pytest.param(
            [(0, {"keys": [SYMMETRIC]}), (300, EMPTY), (300, {"keys": [{}, None]})],
            False,
            id="without a usable key",
        ),
        pytest.param(
            [(0, EMPTY), (0, FAILED), (300, EMPTY), (0, {"keys": {}}), (300, EMPTY)],
            False,
            id="other failures do not reset",
        ),
        pytest.param(
            [(0, EMPTY), (300, EMPTY), (300, FAILED), (600, {"keys": {}}), (0, []), (0, {})],
            True,
            id="other failures do not count",
        ),
        pytest.param(
            [(0, FAILED), (0, EMPTY), (300, EMPTY), (299, EMPTY)],
            True,
            id="the time begins with the first such document",
        ),
        pytest.param(
            [(0, EMPTY), (300, EMPTY), (0, GOOD), (300, EMPTY), (600, EMPTY)],
            True,
            id="a usable key ends the row",
        ),
        pytest.param(
            [(0, EMPTY), (0, GOOD), (600, EMPTY), (0, EMPTY), (0, EMPTY)],
            True,
            id="a usable key ends the time",
        ),
    ],
)
async def test_third_jwks_without_usable_key_withdraws_the_keys(
    refresher: JwksRefresher,
    issuer: Issuer,
    session: ClientSession,
    clock: Clock,
    fetches: list[tuple[float, object]],
    *,
    kept: bool,
) -> None:
    await fetch(refresher, issuer, session, GOOD)
    for seconds, response in fetches:
        assert refresher.key_set is not None
        clock.now += seconds
        await fetch(refresher, issuer, session, response)
    assert (refresher.key_set is not None) is kept

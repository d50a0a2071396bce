"""The JWKS provider: which fetch a token waits for, and how long keys are used."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from logging import ERROR, INFO, WARNING
from typing import Any

import pytest
from aiohttp import ClientSession, web

from middlewares.errors import ApiError, ErrorCode
from rig.issuer import Issuer, key
from rig.service import make_settings
from server.auth.jwks import JwksProvider
from server.auth.keys import JwkSet, make_static_provider, verify_maker
from server.auth.tokens import Verify
from server.config.keys import PUBLIC_ALGORITHMS
from tests.server.redis.support import Clock

LOGGER = "server.auth.jwks"
CACHE_SECONDS = 600
STALE_SECONDS = 86400
UNKNOWN_KEY = "The token's key is not one of the identity provider's"


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> JwksProvider:
    settings = make_settings()
    maker = verify_maker(settings)
    return JwksProvider(
        url=issuer.url,
        algorithms=PUBLIC_ALGORITHMS,
        secrets=make_static_provider(settings),
        make_key_set=partial(JwkSet, allowed=PUBLIC_ALGORITHMS, make_verify=maker),
        cache_seconds=CACHE_SECONDS,
        stale_seconds=STALE_SECONDS,
        cooldown_seconds=5,
        fetch_timeout=0.5,
        wait=0.5,
        clock=clock,
    )


@asynccontextmanager
async def in_background(keys: JwksProvider, session: ClientSession) -> AsyncIterator[None]:
    """Run the provider's refresh as the service does."""
    task = asyncio.create_task(keys.run(session))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def refreshed(keys: JwksProvider, session: ClientSession) -> AsyncIterator[JwksProvider]:
    """Provide the provider while it refreshes its keys."""
    async with in_background(keys, session):
        yield keys


async def error_of(found: Awaitable[Verify]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await found
    return caught.value


async def assert_unavailable(found: Awaitable[Verify], *, retry_after: int) -> None:
    error = await error_of(found)
    assert error.code is ErrorCode.AUTH_UNAVAILABLE
    assert error.details == "The identity provider's keys cannot be reached; try again"
    assert error.headers["Retry-After"] == str(retry_after)


async def assert_invalid(found: Awaitable[Verify], details: str = UNKNOWN_KEY) -> None:
    error = await error_of(found)
    assert (error.code, error.details) == (ErrorCode.AUTH_TOKEN_INVALID, details)


async def server_error(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


# --- fetches ------------------------------------------------------------------------------------


async def test_first_fetch_is_shared_by_all_waiting_requests_that_remain(
    issuer: Issuer, refreshed: JwksProvider
) -> None:
    waiting = [asyncio.create_task(refreshed.find("ES256", "one")) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert len(set(await asyncio.gather(*waiting[1:]))) == 1
    assert waiting[0].cancelled()
    assert issuer.fetches == 1


async def test_unknown_key_id_is_refetched_once_per_cooldown(
    issuer: Issuer, refreshed: JwksProvider, clock: Clock
) -> None:
    await refreshed.find("ES256", "one")
    for seconds, fetches in [(0, 2), (4.9, 2), (0.1, 3), (0, 3), (5, 4)]:
        clock.now += seconds
        await assert_invalid(refreshed.find("ES256", "unknown"))
        assert issuer.fetches == fetches


async def test_failed_refetch_counts_for_the_cooldown(
    issuer: Issuer, refreshed: JwksProvider, clock: Clock
) -> None:
    await refreshed.find("ES256", "one")
    issuer.respond = server_error
    await assert_unavailable(refreshed.find("ES256", "unknown"), retry_after=5)
    clock.now += 3
    await assert_unavailable(refreshed.find("ES256", "unknown"), retry_after=2)
    assert issuer.fetches == 2
    clock.now += 2
    issuer.respond = None
    await assert_invalid(refreshed.find("ES256", "unknown"))
    assert issuer.fetches == 3


@pytest.mark.parametrize("key_id", ["two", None])
@pytest.mark.parametrize(("has_new_key", "fetches"), [(True, 2), (False, 3)])
async def test_fetch_in_flight_is_awaited_before_a_refetch(
    issuer: Issuer,
    keys: JwksProvider,
    session: ClientSession,
    key_id: str | None,
    *,
    has_new_key: bool,
    fetches: int,
) -> None:
    began, proceed = asyncio.Event(), asyncio.Event()
    issuer.keys = [key("one", "ES384")]
    old = issuer.document

    async def slow(_: web.Request) -> web.StreamResponse:
        began.set()
        await proceed.wait()
        issuer.respond = None
        return web.json_response(issuer.document if has_new_key else old)

    await keys.fetch_once(session)
    issuer.respond = slow
    async with in_background(keys, session):
        await began.wait()
        found = asyncio.create_task(keys.find("ES256", key_id))
        await asyncio.sleep(0)  # it waits now
        issuer.keys = [key("two")]
        proceed.set()
        await found
    assert issuer.fetches == fetches


@pytest.mark.parametrize("algorithm", ["none", "HS384", "unknown"])
async def test_unaccepted_algorithm_is_rejected_without_a_fetch(
    issuer: Issuer, keys: JwksProvider, algorithm: str
) -> None:
    details = "The token's algorithm is not accepted here"
    await assert_invalid(keys.find(algorithm, "unknown"), details)
    assert issuer.fetches == 0


async def test_known_key_of_another_algorithm_is_rejected_without_a_fetch(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    await keys.fetch_once(session)
    details = "The token's key is not used with the token's algorithm"
    await assert_invalid(keys.find("RS256", "one"), details)
    assert issuer.fetches == 1


async def test_request_does_not_wait_after_failed_fetches(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    issuer.respond = server_error
    for _ in range(4):
        await keys.fetch_once(session)
    await assert_unavailable(keys.find("ES256", "one"), retry_after=4)
    assert issuer.fetches == 4


async def test_unexpected_error_does_not_block_requests(
    keys: JwksProvider, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> JwkSet:
        raise RuntimeError

    monkeypatch.setattr(keys, "_make_key_set", fail)
    found = asyncio.create_task(keys.find("ES256", "one"))
    with pytest.raises(RuntimeError):
        await keys.run(session)
    await assert_unavailable(found, retry_after=1)


# --- a signature that does not verify ------------------------------------------------------------


async def test_known_key_is_refetched_once_per_cooldown_for_a_failed_signature(
    issuer: Issuer, refreshed: JwksProvider, clock: Clock
) -> None:
    await refreshed.find("ES256", "one")
    for seconds, fetches in [(0, 2), (4.9, 2), (0.1, 3), (0, 3)]:
        clock.now += seconds
        assert not await refreshed.has_newer("ES256", refreshed.key_set)
        assert issuer.fetches == fetches
    await assert_invalid(refreshed.find("ES256", "unknown"))
    assert issuer.fetches == 3  # one cooldown for both


async def test_newer_keys_than_those_of_the_signature_need_no_refetch(
    issuer: Issuer, refreshed: JwksProvider, clock: Clock
) -> None:
    await refreshed.find("ES256", "one")
    before = refreshed.key_set
    issuer.keys = [key("two")]
    clock.now += 5
    await refreshed.find("ES256", "two")
    clock.now += 5
    assert await refreshed.has_newer("ES256", before)
    assert issuer.fetches == 2


async def test_failed_refetch_brings_no_newer_key(issuer: Issuer, refreshed: JwksProvider) -> None:
    await refreshed.find("ES256", "one")
    issuer.respond = server_error
    assert not await refreshed.has_newer("ES256", refreshed.key_set)
    assert not await refreshed.has_newer("ES256", refreshed.key_set)
    assert issuer.fetches == 2


# --- stale and missing keys ---------------------------------------------------------------------


async def test_keys_are_used_until_stale_seconds(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    assert (keys.state, keys.age, keys.key_set) == ("missing", None, None)
    await keys.fetch_once(session)
    first = keys.key_set
    assert (keys.state, keys.age) == ("ready", 0)
    await issuer.go_down()
    clock.now += STALE_SECONDS
    await keys.fetch_once(session)
    assert (keys.state, keys.age, keys.key_set) == ("stale", STALE_SECONDS, first)
    await keys.find("ES256", "one")
    clock.now += 1
    assert (keys.state, keys.key_set) == ("missing", None)
    await assert_unavailable(keys.find("ES256", "one"), retry_after=1)
    await issuer.come_up()
    await keys.fetch_once(session)
    assert (keys.state, keys.age) == ("ready", 0)
    assert keys.key_set is first  # the document is the same


async def test_keys_outdated_by_suspend_are_refetched_before_use(
    issuer: Issuer, refreshed: JwksProvider, clock: Clock
) -> None:
    await refreshed.find("ES256", "one")
    clock.now += STALE_SECONDS + 1
    await refreshed.find("ES256", "one")
    assert issuer.fetches == 2


# --- failed fetches, and withdrawn keys -----------------------------------------------------------

SYMMETRIC = {"kty": "oct", "k": "c2VjcmV0" * 8, "alg": "HS256"}
GOOD = "good"
FAILED = "failed"
EMPTY: dict[str, Any] = {"keys": []}


async def fetch(
    keys: JwksProvider, issuer: Issuer, session: ClientSession, response: object
) -> None:
    """Fetch once; the issuer responds with its keys, an error, or any document."""

    async def respond(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500) if response is FAILED else web.json_response(response)

    issuer.respond = None if response is GOOD else respond
    await keys.fetch_once(session)


async def test_retries_back_off_to_ten_seconds(
    keys: JwksProvider,
    issuer: Issuer,
    session: ClientSession,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.http_client.uniform", max)  # no jitter
    delays = []
    for _ in range(7):
        await fetch(keys, issuer, session, FAILED)
        delays.append(keys._delay())
    assert delays == [0.5, 1, 2, 4, 8, 10, 10]
    await fetch(keys, issuer, session, GOOD)
    assert keys._delay() == CACHE_SECONDS
    clock.now += CACHE_SECONDS
    assert keys._delay() == 0
    await fetch(keys, issuer, session, GOOD)
    clock.now += CACHE_SECONDS - 1
    await fetch(keys, issuer, session, FAILED)
    assert keys._delay() == 1  # the keys are still fresh
    clock.now += 1
    assert keys._delay() == 0.5


FAILURE = (LOGGER, ERROR, "the JWKS is not available: status 500")
WITHOUT_KEYS = (LOGGER, ERROR, "the JWKS is not available: no usable key")
WITHDRAWN = (LOGGER, ERROR, "the JWKS still has no usable key: tokens are answered with 503")
AVAILABLE = (LOGGER, INFO, "the JWKS is available again")
REASON = "it is private, symmetric, too weak or of another curve"
UNUSED = (LOGGER, WARNING, f"keys of JWT_JWKS_URL are not used: null ({REASON})")


@pytest.mark.parametrize(
    ("responses", "records"),
    [
        ((FAILED, FAILED, EMPTY, EMPTY, GOOD, GOOD), [FAILURE, AVAILABLE]),
        ((GOOD, *[EMPTY] * 6, GOOD, GOOD), [WITHOUT_KEYS, WITHDRAWN, AVAILABLE]),
        ((GOOD, *[{"keys": [SYMMETRIC]}] * 2), [WITHOUT_KEYS, UNUSED]),
    ],
    ids=["outage", "withdrawal", "unused keys"],
)
async def test_begin_and_end_are_logged_once(
    keys: JwksProvider,
    issuer: Issuer,
    session: ClientSession,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    responses: list[object],
    records: list[object],
) -> None:
    caplog.set_level("INFO")
    for response in responses:
        clock.now += CACHE_SECONDS
        await fetch(keys, issuer, session, response)
    assert caplog.record_tuples == records


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
    keys: JwksProvider,
    issuer: Issuer,
    session: ClientSession,
    clock: Clock,
    fetches: list[tuple[float, object]],
    *,
    kept: bool,
) -> None:
    await fetch(keys, issuer, session, GOOD)
    for seconds, response in fetches:
        assert keys.key_set is not None
        clock.now += seconds
        await fetch(keys, issuer, session, response)
    assert (keys.key_set is not None) is kept

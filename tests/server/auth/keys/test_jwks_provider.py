"""The JWKS provider: which fetch a token waits for, and how long keys are used."""

import asyncio
from collections.abc import Awaitable
from time import monotonic

import pytest
from aiohttp import ClientSession, web

from middlewares.errors import ApiError, ErrorCode
from rig.issuer import Issuer, key
from server.auth.aiohttp_jwt_adapter import Decoder
from server.auth.jwk_set import JwkSet
from server.auth.jwks import JwksProvider
from tests.server.auth.keys.conftest import STALE_SECONDS, Clock, in_background

UNKNOWN_KEY = "The token's key is not one of the identity provider's"


async def error_of(decoder: Awaitable[Decoder]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await decoder
    return caught.value


async def assert_unavailable(decoder: Awaitable[Decoder], *, retry_after: int) -> None:
    error = await error_of(decoder)
    assert error.code is ErrorCode.AUTH_UNAVAILABLE
    assert error.details == "The identity provider's keys cannot be reached; try again"
    assert error.headers["Retry-After"] == str(retry_after)


async def assert_invalid(decoder: Awaitable[Decoder], details: str = UNKNOWN_KEY) -> None:
    error = await error_of(decoder)
    assert (error.code, error.details) == (ErrorCode.AUTH_TOKEN_INVALID, details)


async def server_error(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


# --- fetches ------------------------------------------------------------------------------------


async def test_first_fetch_is_shared_by_all_waiting_requests(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    waiting = [asyncio.create_task(keys.decoder("ES256", "one")) for _ in range(50)]
    async with in_background(keys, session):
        assert len(set(await asyncio.gather(*waiting))) == 1
    assert issuer.fetches == 1


async def test_unknown_key_id_is_refetched_once_per_cooldown(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    async with in_background(keys, session):
        await keys.decoder("ES256", "one")
        for seconds, fetches in [(0, 2), (4.9, 2), (0.1, 3), (0, 3), (5, 4)]:
            clock.now += seconds
            await assert_invalid(keys.decoder("ES256", "unknown"))
            assert issuer.fetches == fetches


async def test_failed_refetch_counts_for_the_cooldown(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    async with in_background(keys, session):
        await keys.decoder("ES256", "one")
        issuer.respond = server_error
        await assert_unavailable(keys.decoder("ES256", "unknown"), retry_after=5)
        clock.now += 3
        await assert_unavailable(keys.decoder("ES256", "unknown"), retry_after=2)
        assert issuer.fetches == 2
        clock.now += 2
        issuer.respond = None
        await assert_invalid(keys.decoder("ES256", "unknown"))
        assert issuer.fetches == 3


async def test_refetch_is_shared_by_all_tokens_of_a_new_key(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    async with in_background(keys, session):
        await keys.decoder("ES256", "one")
        issuer.keys = [key("two")]
        await asyncio.gather(*(keys.decoder("ES256", "two") for _ in range(50)))
        assert issuer.fetches == 2


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
        decoder = asyncio.create_task(keys.decoder("ES256", key_id))
        await asyncio.sleep(0)  # it waits now
        issuer.keys = [key("two")]
        proceed.set()
        await decoder
    assert issuer.fetches == fetches


@pytest.mark.parametrize("algorithm", ["none", "HS256", "unknown"])
async def test_unaccepted_algorithm_is_rejected_without_a_fetch(
    issuer: Issuer, keys: JwksProvider, algorithm: str
) -> None:
    details = "The token's algorithm is not accepted here"
    await assert_invalid(keys.decoder(algorithm, "unknown"), details)
    assert issuer.fetches == 0


async def test_known_key_of_another_algorithm_is_rejected_without_a_fetch(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    await keys.fetch_once(session)
    await assert_invalid(keys.decoder("RS256", "one"))
    assert issuer.fetches == 1


async def test_cancelled_request_does_not_cancel_the_fetch(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    cancelled = asyncio.create_task(keys.decoder("ES256", "one"))
    other = asyncio.create_task(keys.decoder("ES256", "one"))
    async with in_background(keys, session):
        await asyncio.sleep(0)
        cancelled.cancel()
        await other
    assert cancelled.cancelled()
    assert issuer.fetches == 1


async def test_request_does_not_wait_after_failed_fetches(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    issuer.respond = server_error
    for _ in range(4):
        await keys.fetch_once(session)
    await assert_unavailable(keys.decoder("ES256", "one"), retry_after=4)
    assert issuer.fetches == 4


async def test_request_waits_no_longer_than_one_fetch(keys: JwksProvider) -> None:
    start = monotonic()
    await assert_unavailable(keys.decoder("ES256", "one"), retry_after=1)
    assert monotonic() - start >= 0.5


async def test_unexpected_error_does_not_block_requests(
    keys: JwksProvider, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> JwkSet:
        raise RuntimeError

    monkeypatch.setattr(keys._refresher, "_make_key_set", fail)
    decoder = asyncio.create_task(keys.decoder("ES256", "one"))
    with pytest.raises(RuntimeError):
        await keys.run(session)
    await assert_unavailable(decoder, retry_after=1)


# --- stale and missing keys ---------------------------------------------------------------------


async def test_keys_are_used_until_stale_seconds(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    assert (keys.state, keys.age, keys.generation) == ("missing", None, None)
    await keys.fetch_once(session)
    first = keys.generation
    assert (keys.state, keys.age) == ("ready", 0)
    await issuer.go_down()
    clock.now += STALE_SECONDS
    await keys.fetch_once(session)
    assert (keys.state, keys.age, keys.generation) == ("stale", STALE_SECONDS, first)
    await keys.decoder("ES256", "one")
    clock.now += 1
    assert (keys.state, keys.generation) == ("missing", None)
    await assert_unavailable(keys.decoder("ES256", "one"), retry_after=1)
    await issuer.come_up()
    await keys.fetch_once(session)
    assert (keys.state, keys.age) == ("ready", 0)
    assert keys.generation not in {None, first}


async def test_keys_outdated_by_suspend_are_refetched_before_use(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    async with in_background(keys, session):
        await keys.decoder("ES256", "one")
        clock.now += STALE_SECONDS + 1
        await keys.decoder("ES256", "one")
        assert issuer.fetches == 2


async def test_withdrawn_keys_make_tokens_unavailable_not_invalid(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    published = issuer.keys
    await keys.fetch_once(session)
    issuer.keys = []
    for state in ("stale", "stale", "missing"):
        clock.now += 300
        await keys.fetch_once(session)
        assert keys.state == state
    await assert_unavailable(keys.decoder("ES256", "one"), retry_after=2)
    await assert_unavailable(keys.decoder("ES256", "unknown"), retry_after=2)
    issuer.keys = published
    await keys.fetch_once(session)
    assert keys.state == "ready"
    await keys.decoder("ES256", "one")

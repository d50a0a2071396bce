"""The JWKS provider: which fetch a token waits for, and how long keys are used."""

import asyncio
from collections.abc import Awaitable
from time import monotonic

import pytest
from aiohttp import ClientSession, web

from middlewares.errors import ApiError, ErrorCode
from rig.issuer import Issuer, key
from rig.service import sign
from server.auth.aiohttp_jwt_adapter import verify_token
from server.auth.jwk_set import JwkSet
from server.auth.jwks import JwksProvider
from server.auth.tokens import Verify
from tests.server.auth.keys.conftest import STALE_SECONDS, Clock, in_background

UNKNOWN_KEY = "The token's key is not one of the identity provider's"


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


async def test_first_fetch_is_shared_by_all_waiting_requests(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    waiting = [asyncio.create_task(keys.find("ES256", "one")) for _ in range(50)]
    async with in_background(keys, session):
        assert len(set(await asyncio.gather(*waiting))) == 1
    assert issuer.fetches == 1


async def test_unknown_key_id_is_refetched_once_per_cooldown(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    async with in_background(keys, session):
        await keys.find("ES256", "one")
        for seconds, fetches in [(0, 2), (4.9, 2), (0.1, 3), (0, 3), (5, 4)]:
            clock.now += seconds
            await assert_invalid(keys.find("ES256", "unknown"))
            assert issuer.fetches == fetches


async def test_failed_refetch_counts_for_the_cooldown(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    async with in_background(keys, session):
        await keys.find("ES256", "one")
        issuer.respond = server_error
        await assert_unavailable(keys.find("ES256", "unknown"), retry_after=5)
        clock.now += 3
        await assert_unavailable(keys.find("ES256", "unknown"), retry_after=2)
        assert issuer.fetches == 2
        clock.now += 2
        issuer.respond = None
        await assert_invalid(keys.find("ES256", "unknown"))
        assert issuer.fetches == 3


async def test_refetch_is_shared_by_all_tokens_of_a_new_key(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    async with in_background(keys, session):
        await keys.find("ES256", "one")
        issuer.keys = [key("two")]
        await asyncio.gather(*(keys.find("ES256", "two") for _ in range(50)))
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


async def test_cancelled_request_does_not_cancel_the_fetch(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    cancelled = asyncio.create_task(keys.find("ES256", "one"))
    other = asyncio.create_task(keys.find("ES256", "one"))
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
    await assert_unavailable(keys.find("ES256", "one"), retry_after=4)
    assert issuer.fetches == 4


async def test_request_waits_no_longer_than_one_fetch(keys: JwksProvider) -> None:
    start = monotonic()
    await assert_unavailable(keys.find("ES256", "one"), retry_after=1)
    assert monotonic() - start >= 0.5


async def test_unexpected_error_does_not_block_requests(
    keys: JwksProvider, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> JwkSet:
        raise RuntimeError

    monkeypatch.setattr(keys._refresher, "_make_key_set", fail)
    found = asyncio.create_task(keys.find("ES256", "one"))
    with pytest.raises(RuntimeError):
        await keys.run(session)
    await assert_unavailable(found, retry_after=1)


# --- a signature that does not verify ------------------------------------------------------------


async def test_known_key_is_refetched_once_per_cooldown_for_a_failed_signature(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    async with in_background(keys, session):
        await keys.find("ES256", "one")
        for seconds, fetches in [(0, 2), (4.9, 2), (0.1, 3), (0, 3)]:
            clock.now += seconds
            assert not await keys.has_newer("ES256", keys.key_set)
            assert issuer.fetches == fetches
        await assert_invalid(keys.find("ES256", "unknown"))
        assert issuer.fetches == 3  # one cooldown for both


async def test_key_that_was_replaced_is_newer_without_another_fetch(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    async with in_background(keys, session):
        await keys.find("ES256", "one")
        old = keys.key_set
        issuer.keys = [key("one")]
        assert all(await asyncio.gather(*(keys.has_newer("ES256", old) for _ in range(50))))
        assert await keys.has_newer("ES256", old)
    assert issuer.fetches == 2


async def test_failed_refetch_brings_no_newer_key(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    async with in_background(keys, session):
        await keys.find("ES256", "one")
        issuer.respond = server_error
        assert not await keys.has_newer("ES256", keys.key_set)
        assert not await keys.has_newer("ES256", keys.key_set)
    assert issuer.fetches == 2


async def test_secret_has_no_part_in_the_jwks(issuer: Issuer, keys: JwksProvider) -> None:
    for key_id in (None, "one", "unknown"):
        verify = await keys.find("HS256", key_id)
        assert verify_token(sign(), verify)["id"] == "pt_1"
    assert not await keys.has_newer("HS256", keys.key_set)
    assert issuer.fetches == 0


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
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    async with in_background(keys, session):
        await keys.find("ES256", "one")
        clock.now += STALE_SECONDS + 1
        await keys.find("ES256", "one")
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
    await assert_unavailable(keys.find("ES256", "one"), retry_after=2)
    await assert_unavailable(keys.find("ES256", "unknown"), retry_after=2)
    issuer.keys = published
    await keys.fetch_once(session)
    assert keys.state == "ready"
    await keys.find("ES256", "one")

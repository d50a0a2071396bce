"""The JWKS provider: background refresh, stale keys while the address fails, refetch."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic

import pytest
from aiohttp import ClientSession, web

from middlewares.api_errors import ApiError, ErrorCode
from server.auth.aiohttp_jwt_adapter import Decoder
from server.auth.keys.jwk_set import JwkSet
from server.auth.keys.jwks_provider import JwksProvider
from server.config.public_keys import PUBLIC_ALGORITHMS
from tests.conftest import Serve
from tests.issuer import ISSUER, Issuer, Respond, eventually, hang, hang_in_the_body, issuing, key
from tests.middlewares.tokens import make_decoder
from tests.support import Service, claims, sign

BUDGET = {"SESSION_BUDGET_SECONDS": "1", "VAPI_TIMEOUT_SECONDS": "0.5"}
"""Past it the answer would be a 504."""


class Clock:
    """Tells whatever time it is set to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> JwksProvider:
    def decoders(public: object, algorithms: Iterable[str]) -> dict[str, Decoder]:
        return {algorithm: make_decoder(algorithm, public) for algorithm in algorithms}

    return JwksProvider(
        url=issuer.url,
        algorithms=PUBLIC_ALGORITHMS,
        make_key_set=partial(JwkSet, allowed=PUBLIC_ALGORITHMS, make_decoders=decoders),
        cache_seconds=600,
        stale_seconds=86400,
        cooldown_seconds=30,
        timeout=0.5,
        clock=clock,
    )


@asynccontextmanager
async def in_the_background(keys: JwksProvider, session: ClientSession) -> AsyncIterator[None]:
    """Let the keys fetch as they do in the service."""
    task = asyncio.create_task(keys.run(session))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def refused(asking: Awaitable[Decoder]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await asking
    return caught.value


def unavailable(error: ApiError, retry_after: int) -> bool:
    told = error.headers.get("Retry-After")
    return error.code is ErrorCode.AUTH_UNAVAILABLE and told == str(retry_after)


# --- in the service -----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"])
async def test_a_token_of_each_algorithm_is_granted(
    issuer: Issuer, serve: Serve, algorithm: str
) -> None:
    issuer.keys = [key("other", "ES256"), key("one", algorithm)]
    service = await serve(**issuer.variables)
    assert (await service.start(issuer.keys[1].token())).status == 200


async def test_a_token_without_a_kid_is_granted_when_exactly_one_key_fits(
    issuer: Issuer, serve: Serve
) -> None:
    issuer.keys = [key("ec"), key("ed", "EdDSA")]
    service = await serve(**issuer.variables)
    nameless = sign(claims(iss=ISSUER), issuer.keys[0].private, "ES256")
    assert (await service.start(nameless)).status == 200


async def test_500_unknown_kids_cost_two_fetches_while_a_good_token_is_served(
    issuer: Issuer, serve: Serve
) -> None:
    issuer.keys = [key("one"), key("two", "EdDSA"), key("three", "RS256")]
    service = await serve(**issuer.variables, RATE_LIMIT="off")
    good = issuer.keys[0].token()
    unknown = [good if number % 10 == 0 else key(f"{number}").token() for number in range(550)]
    answers = await asyncio.gather(*(service.start(token) for token in unknown))
    assert {answer.status for answer in answers[::10]} == {200}
    others = [answer for number, answer in enumerate(answers) if number % 10]
    assert len(others) >= 495
    assert {(answer.status, answer.code) for answer in others} == {(401, "AUTH_TOKEN_INVALID")}
    assert issuer.fetches <= 2


async def test_a_new_key_serves_from_its_first_token_on(issuer: Issuer, serve: Serve) -> None:
    service = await serve(**issuer.variables)
    assert (await service.start(issuer.keys[0].token())).status == 200
    issuer.keys = [key("two")]
    assert (await service.start(issuer.keys[0].token())).status == 200


async def test_a_key_that_was_withdrawn_serves_no_longer_once_the_cache_ran_out(
    issuer: Issuer, serve: Serve
) -> None:
    service = await serve(**issuer.variables, JWKS_CACHE_SECONDS="0.05", RATE_LIMIT="off")
    token = issuer.keys[0].token()
    assert (await service.start(token)).status == 200
    issuer.keys = [key("two")]

    async def is_refused() -> bool:
        return (await service.start(token)).code == "AUTH_TOKEN_INVALID"

    await eventually(is_refused)


async def nonsense(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>maintenance</html>")


async def fault(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def no_keys(_: web.Request) -> web.StreamResponse:
    return web.json_response({"keys": []})


async def fifty_megabytes(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b" " * 50 * 1024 * 1024)


async def redirect(request: web.Request) -> web.StreamResponse:
    if request.path == "/elsewhere":
        raise AssertionError
    return web.Response(status=302, headers={"Location": "/elsewhere"})


FAILURES = [hang, hang_in_the_body, nonsense, fault, no_keys, fifty_megabytes, redirect]


@pytest.mark.parametrize("failure", FAILURES)
async def test_an_address_that_fails_at_start_is_told_in_time_and_got_over(
    issuer: Issuer, serve: Serve, failure: Respond
) -> None:
    issuer.respond = failure
    service = await serve(**issuer.variables, **BUDGET, RATE_LIMIT="off")
    await is_told_and_got_over(service, issuer, issuer.keys[0].token())


async def test_an_address_that_is_down_at_start_is_told_in_time_and_got_over(
    issuer: Issuer, serve: Serve
) -> None:
    await issuer.go_down()
    service = await serve(**issuer.variables, **BUDGET, RATE_LIMIT="off")
    await is_told_and_got_over(service, issuer, issuer.keys[0].token())


async def is_told_and_got_over(service: Service, issuer: Issuer, token: str) -> None:
    answer = await service.start(token)
    assert (answer.status, answer.code) == (503, "AUTH_UNAVAILABLE")
    assert int(answer.response.headers["Retry-After"]) >= 1
    assert (await service.ask("GET", "/readyz")).json["parts"]["keys"] == "missing"
    issuer.respond = None
    await issuer.go_down()
    await issuer.come_up()

    async def is_granted() -> bool:
        return (await service.start(token)).status == 200

    await eventually(is_granted)
    assert (await service.ask("GET", "/readyz")).json["parts"]["keys"] == "ready"


@pytest.mark.parametrize("failure", FAILURES)
async def test_an_address_that_fails_later_logs_nobody_out(
    issuer: Issuer, serve: Serve, failure: Respond
) -> None:
    cooldown = {"JWKS_COOLDOWN_SECONDS": "0.01"}
    service = await serve(**issuer.variables, **BUDGET, **cooldown, RATE_LIMIT="off")
    known, new = issuer.keys[0], key("two")
    assert (await service.start(known.token())).status == 200
    issuer.respond = failure
    issuer.keys = [known, new]
    answer = await service.start(new.token())
    assert (answer.status, answer.code) == (503, "AUTH_UNAVAILABLE")
    assert int(answer.response.headers["Retry-After"]) >= 1
    assert (await service.start(known.token())).status == 200
    assert (await service.ask("GET", "/readyz")).json["parts"]["keys"] == "stale"
    issuer.respond = None

    async def is_granted() -> bool:
        return (await service.start(new.token())).status == 200

    await eventually(is_granted)


# --- when it fetches ----------------------------------------------------------------------------


async def test_many_who_wait_for_the_first_keys_share_one_fetch(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    waiting = [asyncio.create_task(keys.decoder("ES256", "one")) for _ in range(50)]
    async with in_the_background(keys, session):
        assert len(set(await asyncio.gather(*waiting))) == 1
    assert issuer.fetches == 1


async def test_an_unknown_key_id_is_looked_up_once_in_the_cooldown(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    async with in_the_background(keys, session):
        await keys.decoder("ES256", "one")
        for seconds, fetches in [(0, 2), (29.9, 2), (0.1, 3), (0, 3), (30, 4)]:
            clock.now += seconds
            error = await refused(keys.decoder("ES256", "unknown"))
            assert error.code is ErrorCode.AUTH_TOKEN_INVALID
            assert issuer.fetches == fetches


async def test_a_look_up_that_fails_counts_as_well(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    async with in_the_background(keys, session):
        await keys.decoder("ES256", "one")
        issuer.respond = fault
        assert unavailable(await refused(keys.decoder("ES256", "unknown")), 30)
        clock.now += 10
        assert unavailable(await refused(keys.decoder("ES256", "unknown")), 20)
        assert issuer.fetches == 2
        clock.now += 20
        issuer.respond = None
        error = await refused(keys.decoder("ES256", "unknown"))
        assert error.code is ErrorCode.AUTH_TOKEN_INVALID


async def test_those_who_bring_one_new_key_together_are_all_served(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    async with in_the_background(keys, session):
        await keys.decoder("ES256", "one")
        issuer.keys = [key("two")]
        await asyncio.gather(*(keys.decoder("ES256", "two") for _ in range(50)))
        assert issuer.fetches == 2


@pytest.mark.parametrize(("brings_it", "fetches"), [(True, 2), (False, 3)])
async def test_a_fetch_under_way_is_waited_for_before_another_is_made(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, *, brings_it: bool, fetches: int
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()
    old = issuer.document

    async def slowly(_: web.Request) -> web.StreamResponse:
        began.set()
        await go_on.wait()
        issuer.respond = None
        return web.json_response(issuer.document if brings_it else old)

    await keys.fetch_once(session)
    issuer.respond = slowly
    async with in_the_background(keys, session):
        await began.wait()
        asked = asyncio.create_task(keys.decoder("ES256", "two"))
        await asyncio.sleep(0)  # so that it waits by now
        issuer.keys = [key("two")]
        go_on.set()
        await asked
    assert issuer.fetches == fetches


@pytest.mark.parametrize("algorithm", ["none", "HS256", "nonesuch"])
async def test_an_algorithm_that_is_not_accepted_has_nothing_fetched(
    issuer: Issuer, keys: JwksProvider, algorithm: str
) -> None:
    error = await refused(keys.decoder(algorithm, "unknown"))
    assert error.code is ErrorCode.AUTH_TOKEN_INVALID
    assert issuer.fetches == 0


async def test_a_known_key_of_another_algorithm_has_nothing_fetched(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    await keys.fetch_once(session)
    error = await refused(keys.decoder("RS256", "one"))
    assert error.code is ErrorCode.AUTH_TOKEN_INVALID
    assert issuer.fetches == 1


async def test_a_request_that_leaves_does_not_end_the_fetch_for_the_others(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    leaves = asyncio.create_task(keys.decoder("ES256", "one"))
    stays = asyncio.create_task(keys.decoder("ES256", "one"))
    async with in_the_background(keys, session):
        await asyncio.sleep(0)
        leaves.cancel()
        await stays
    assert leaves.cancelled()
    assert issuer.fetches == 1


async def test_nobody_waits_for_an_address_that_is_known_to_fail(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    issuer.respond = fault
    for _ in range(4):
        await keys.fetch_once(session)
    assert unavailable(await refused(keys.decoder("ES256", "one")), 4)
    assert issuer.fetches == 4


async def test_nobody_waits_longer_than_one_fetch_may_take(keys: JwksProvider) -> None:
    start = monotonic()
    assert unavailable(await refused(keys.decoder("ES256", "one")), 1)
    assert 0.4 < monotonic() - start < 1


# --- how long keys serve ------------------------------------------------------------------------


async def test_keys_serve_until_they_are_too_stale(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    await keys.fetch_once(session)
    assert (keys.state, keys.age) == ("ready", 0)
    await issuer.go_down()
    clock.now += 86400
    await keys.fetch_once(session)
    assert (keys.state, keys.age) == ("stale", 86400)
    await keys.decoder("ES256", "one")
    clock.now += 1
    assert keys.state == "missing"
    assert unavailable(await refused(keys.decoder("ES256", "one")), 1)
    await issuer.come_up()
    await keys.fetch_once(session)
    assert (keys.state, keys.age) == ("ready", 0)


async def test_without_keys_there_is_no_age(keys: JwksProvider) -> None:
    assert (keys.state, keys.age) == ("missing", None)


async def test_keys_that_grew_old_while_the_machine_slept_are_fetched_before_they_serve(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    async with in_the_background(keys, session):
        await keys.decoder("ES256", "one")
        clock.now += 90000
        await keys.decoder("ES256", "one")
        assert issuer.fetches == 2


async def test_a_document_without_a_usable_key_takes_no_key_away(
    issuer: Issuer, keys: JwksProvider, session: ClientSession
) -> None:
    await keys.fetch_once(session)
    issuer.keys = []
    await keys.fetch_once(session)
    assert keys.state == "stale"
    await keys.decoder("ES256", "one")


async def test_the_address_is_left_alone_for_longer_while_it_fails(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, clock: Clock
) -> None:
    fetcher = keys._refresher
    issuer.respond = fault
    pauses = []
    for _ in range(7):
        await keys.fetch_once(session)
        pauses.append(fetcher.delay())
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10]
    issuer.respond = None
    await keys.fetch_once(session)
    assert fetcher.delay() == 600
    clock.now += 599
    issuer.respond = fault
    await keys.fetch_once(session)
    assert fetcher.delay() == 1  # a look-up that failed; the keys are still fresh
    clock.now += 1
    assert fetcher.delay() == 0.5


async def test_a_failure_and_its_end_are_a_line_each(
    issuer: Issuer, keys: JwksProvider, session: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    issuer.respond = fault
    for _ in range(3):
        await keys.fetch_once(session)
    issuer.respond = None
    for _ in range(3):
        await keys.fetch_once(session)
    assert caplog.messages == [
        "the JWKS is not available: status 500",
        "the JWKS is available again",
    ]


async def test_a_fault_that_nobody_foresaw_keeps_no_request_waiting(
    keys: JwksProvider, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> JwkSet:
        raise RuntimeError

    monkeypatch.setattr(keys._refresher, "_make_key_set", fail)
    asked = asyncio.create_task(keys.decoder("ES256", "one"))
    with pytest.raises(RuntimeError):
        await keys.run(session)
    assert unavailable(await refused(asked), 1)

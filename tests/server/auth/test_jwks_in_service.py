"""The service with a JWKS: rotation, outages and hostile tokens, over real sockets."""

import asyncio
from time import monotonic

import pytest
from aiohttp import web

from rig.issuer import ISSUER, Issuer, Respond, hang, key
from rig.service import SECRET, Service, claims, sign
from rig.waiting import eventually
from tests.conftest import Serve

SHORT_BUDGET = {
    "SESSION_BUDGET_SECONDS": "1",
    "VAPI_TIMEOUT_SECONDS": "0.5",
    "JWKS_TIMEOUT_SECONDS": "0.5",
    "RATE_LIMIT": "off",
}
"""A response after it is a 504."""


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.http_client._FIRST_SECONDS", 0.05)


async def no_keys(_: web.Request) -> web.StreamResponse:
    return web.json_response({"keys": []})


async def refuse_connections(_: web.Request) -> web.StreamResponse:
    raise AssertionError


FAILURES = [hang, no_keys, refuse_connections]


async def fail(issuer: Issuer, failure: Respond) -> None:
    issuer.respond = failure
    if failure is refuse_connections:
        await issuer.go_down()


async def recover(issuer: Issuer) -> None:
    issuer.respond = None
    await issuer.go_down()
    await issuer.come_up()


async def keys_state(service: Service) -> str:
    return str((await service.ask("GET", "/readyz")).json["parts"]["keys"])


async def assert_unavailable(service: Service, token: str) -> None:
    answer = await service.start(token)
    assert (answer.status, answer.code) == (503, "AUTH_UNAVAILABLE")
    assert int(answer.response.headers["Retry-After"]) >= 1


async def eventually_granted(service: Service, token: str) -> None:
    async def is_granted() -> bool:
        return (await service.start(token)).status == 200

    await eventually(is_granted)


async def test_token_of_each_algorithm_is_granted(issuer: Issuer, serve: Serve) -> None:
    algorithms = ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
    issuer.keys = [key(algorithm, algorithm) for algorithm in algorithms]
    service = await serve(**issuer.variables)
    for each in issuer.keys:
        assert (await service.start(each.token())).status == 200


async def test_unknown_key_ids_and_forged_signatures_cause_one_refetch(
    issuer: Issuer, serve: Serve
) -> None:
    service = await serve(**issuer.variables, JWKS_COOLDOWN_SECONDS="60", RATE_LIMIT="off")
    valid, signer = issuer.keys[0].token(), key()
    unknown = [signer.token(kid=f"unknown {number}") for number in range(50)]
    forged = [key("one").token() for _ in range(50)]
    valid_answers = [service.start(valid) for _ in range(50)]
    answers = await asyncio.gather(*valid_answers, *map(service.start, [*unknown, *forged]))
    assert {answer.status for answer in answers[:50]} == {200}
    assert {(each.status, each.code) for each in answers[50:]} == {(401, "AUTH_TOKEN_INVALID")}
    assert issuer.fetches == 2


@pytest.mark.parametrize("key_id", ["two", "one"], ids=["another id", "the same id"])
async def test_new_key_is_accepted_at_its_first_token(
    issuer: Issuer, serve: Serve, key_id: str
) -> None:
    service = await serve(**issuer.variables, RATE_LIMIT="off")
    old = issuer.keys[0]
    assert (await service.start(old.token())).status == 200
    issuer.keys = [key(key_id)]
    token = issuer.keys[0].token()
    answers = await asyncio.gather(*(service.start(token) for _ in range(20)))
    assert {each.status for each in answers} == {200}
    assert (await service.start(old.token({"iss": ISSUER, "exp": 2**40}))).status == 401
    assert issuer.fetches == 2


async def test_forged_signatures_do_not_pile_up_behind_a_slow_provider(
    issuer: Issuer, serve: Serve
) -> None:
    service = await serve(**issuer.variables, JWKS_COOLDOWN_SECONDS="60", RATE_LIMIT="off")
    known, forged, proceed = issuer.keys[0].token(), key("one").token(), asyncio.Event()
    assert (await service.start(known)).status == 200
    issuer.respond = answering_after(proceed, issuer)
    start = monotonic()
    assert (await service.start(forged)).code == "AUTH_UNAVAILABLE"
    assert monotonic() - start >= 1.4  # half the budget
    start = monotonic()
    answers = await asyncio.gather(*(service.start(forged) for _ in range(20)))
    assert {each.code for each in answers} == {"AUTH_UNAVAILABLE"}
    assert monotonic() - start < 1.4
    assert (await service.start(known)).status == 200
    proceed.set()

    async def is_invalid() -> bool:
        return (await service.start(forged)).code == "AUTH_TOKEN_INVALID"

    await eventually(is_invalid)
    assert issuer.fetches == 2


async def test_slow_fetch_outlives_the_requests_that_wait_for_it(
    issuer: Issuer, serve: Serve
) -> None:
    proceed = asyncio.Event()
    issuer.respond = answering_after(proceed, issuer)
    service = await serve(**issuer.variables, **{**SHORT_BUDGET, "JWKS_TIMEOUT_SECONDS": "30"})
    await assert_unavailable(service, issuer.keys[0].token())
    proceed.set()
    await eventually_granted(service, issuer.keys[0].token())
    assert issuer.fetches == 1


def answering_after(proceed: asyncio.Event, issuer: Issuer) -> Respond:
    """Answer with the document once an event is set."""

    async def respond(_: web.Request) -> web.StreamResponse:
        await proceed.wait()
        return web.json_response(issuer.document)

    return respond


async def test_secret_beside_the_jwks_does_not_wait_for_it(issuer: Issuer, serve: Serve) -> None:
    issuer.respond = hang
    variables = {**issuer.variables, "JWT_SECRET": SECRET, "JWT_ALGORITHMS": ""}
    service = await serve(**variables, **SHORT_BUDGET)
    for headers in ({}, {"kid": "one"}, {"kid": "unknown"}):
        assert (await service.start(sign(claims(iss=ISSUER), **headers))).status == 200
    assert (await service.start(sign(claims(iss=ISSUER), SECRET[::-1]))).status == 401
    assert (await service.start(sign(claims(iss="them")))).status == 401
    await assert_unavailable(service, issuer.keys[0].token())
    assert await keys_state(service) == "missing"
    await recover(issuer)
    await eventually_granted(service, issuer.keys[0].token())


async def test_removed_key_is_rejected_after_cache_seconds(issuer: Issuer, serve: Serve) -> None:
    service = await serve(**issuer.variables, JWKS_CACHE_SECONDS="0.05", RATE_LIMIT="off")
    token = issuer.keys[0].token()
    assert (await service.start(token)).status == 200
    issuer.keys = [key("two")]

    async def is_rejected() -> bool:
        return (await service.start(token)).code == "AUTH_TOKEN_INVALID"

    await eventually(is_rejected)


async def test_withdrawn_keys_are_unavailable_until_a_key_appears(
    issuer: Issuer, serve: Serve
) -> None:
    service = await serve(**issuer.variables, JWKS_CACHE_SECONDS="0.05", RATE_LIMIT="off")
    published, token = issuer.keys, issuer.keys[0].token()
    assert (await service.start(token)).status == 200
    issuer.keys = []

    async def is_unavailable() -> bool:
        answer = await service.start(token)
        return (answer.status, answer.code) == (503, "AUTH_UNAVAILABLE")

    await eventually(is_unavailable)
    assert issuer.fetches >= 4
    assert await keys_state(service) == "missing"
    issuer.keys = published
    await eventually_granted(service, token)
    assert await keys_state(service) == "ready"


@pytest.mark.parametrize("failure", FAILURES)
async def test_outage_at_start_is_unavailable_until_it_ends(
    issuer: Issuer, serve: Serve, failure: Respond
) -> None:
    await fail(issuer, failure)
    service = await serve(**issuer.variables, **SHORT_BUDGET)
    token = issuer.keys[0].token()
    await assert_unavailable(service, token)
    assert await keys_state(service) == "missing"
    await recover(issuer)
    await eventually_granted(service, token)
    assert await keys_state(service) == "ready"


@pytest.mark.parametrize("failure", FAILURES)
async def test_outage_later_keeps_known_keys(
    issuer: Issuer, serve: Serve, failure: Respond
) -> None:
    service = await serve(**issuer.variables, **SHORT_BUDGET, JWKS_COOLDOWN_SECONDS="0.01")
    known, new = issuer.keys[0], key("two")
    assert (await service.start(known.token())).status == 200
    await fail(issuer, failure)
    issuer.keys = [known, new]
    await assert_unavailable(service, new.token())
    assert (await service.start(known.token())).status == 200

    async def is_stale() -> bool:  # a hanging fetch ends with the request, or just after it
        return await keys_state(service) == "stale"

    await eventually(is_stale)
    await recover(issuer)
    await eventually_granted(service, new.token())


async def test_unused_keys_are_one_warning_for_each_change(
    issuer: Issuer, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.keys = [key("one"), key("next", "ES384")]
    variables = {**issuer.variables, "JWT_ALGORITHMS": "ES256", "JWKS_CACHE_SECONDS": "0.05"}
    await serve(**variables)

    def warnings() -> list[str]:
        return [each.message for each in caplog.records if "are not used" in each.message]

    async def has_fetched_often() -> bool:
        return issuer.fetches >= 4

    await eventually(has_fetched_often)
    assert len(warnings()) == 1
    assert '"next" (no algorithm of it' in warnings()[0]
    issuer.keys = [issuer.keys[0], key("other", "ES384")]

    async def is_told() -> bool:
        return len(warnings()) == 2

    await eventually(is_told)

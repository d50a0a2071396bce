"""The endpoint end to end: a valid token, no token, Vapi failing, concurrency, malformed input."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import CallbackResult, aioresponses
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rig.service import ASSISTANT_ID, PRIVATE_KEY, PUBLIC_KEY, Answer, Service, claims, sign
from rig.vapi import vapi
from sandbox.vapi.app import PROMPT
from sandbox.vapi.behaviour import UP, Behaviour, Fault
from tests.conftest import AuditLines, Serve
from tests.table import INVALID_TOKEN, NOWHERE, REALM

UNAVAILABLE = "Vapi service temporarily unavailable"
REJECTED = "Vapi configuration rejected"
MOCKED = "https://vapi.test"
CHECKED_ONCE = {"VAPI_CHECK_SECONDS": "30"}
SHORT_TIMEOUT = {**CHECKED_ONCE, "VAPI_TIMEOUT_SECONDS": "0.1"}
ENDLESS = {Fault.HANG, Fault.TRICKLE_HEADERS}


# --- a valid token ---------------------------------------------------------------------------


async def test_valid_token_gets_a_session_while_vapi_is_up(serve: Serve) -> None:
    async with vapi() as stand_in:
        service = await serve(**CHECKED_ONCE, VAPI_BASE_URL=stand_in.url)
        answer = await service.start(sign(), json={"patientContext": {"id": "pt_1"}})
        assert answer.status == 200
        assert answer.json["data"]["apiKey"] == PUBLIC_KEY
        assert stand_in.requests == [f"GET /assistant/{ASSISTANT_ID}"]
        assert PROMPT not in answer.body.decode()


@pytest.mark.parametrize("credential", ["public_key", "session_token"])
async def test_credential_starts_a_call_and_is_not_a_private_key(
    serve: Serve, credential: str
) -> None:
    async with vapi() as stand_in:
        service = await serve(VAPI_CREDENTIAL=credential, VAPI_BASE_URL=stand_in.url)
        data = (await service.start(sign())).json["data"]
        headers = {"Authorization": f"Bearer {data['apiKey']}"}
        call = {"assistantId": data["assistantId"]}
        assistant = f"{stand_in.url}/assistant/{ASSISTANT_ID}"
        url = f"{stand_in.url}/call/web"
        async with service.client.post(url, json=call, headers=headers) as answer:
            assert answer.status == 201
        async with service.client.get(assistant, headers=headers) as answer:
            assert answer.status == 401


async def test_requests_do_not_wait_for_vapi_after_its_first_answer(serve: Serve) -> None:
    async with vapi() as stand_in:
        service = await serve(**CHECKED_ONCE, VAPI_BASE_URL=stand_in.url)
        assert (await service.start(sign())).status == 200
        stand_in.behave(Behaviour(Fault.HANG))
        for _ in range(20):
            assert (await service.start(sign())).status == 200
        assert len(stand_in.requests) == 1


async def test_disabled_health_check_sends_no_request(serve: Serve) -> None:
    async with vapi() as stand_in:
        service = await serve(VAPI_BASE_URL=stand_in.url, VAPI_CHECK_SECONDS="0")
        assert (await service.start(sign())).status == 200
        assert stand_in.requests == []


# --- no token --------------------------------------------------------------------------------


async def test_request_without_a_token_is_rejected(
    service: Service, audit_lines: AuditLines
) -> None:
    answer = await service.start()
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_MISSING")
    assert answer.response.headers["WWW-Authenticate"] == REALM
    (line,) = audit_lines()
    assert (line["outcome"], line["patient"]) == ("denied", None)


async def test_invalid_token_is_rejected(service: Service) -> None:
    answer = await service.start("a.b.c")
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_INVALID")
    assert answer.response.headers["WWW-Authenticate"] == INVALID_TOKEN


# --- Vapi failing ------------------------------------------------------------------------------


def assert_unavailable(answer: Answer, details: str) -> None:
    assert (answer.status, answer.code, answer.details) == (503, "VAPI_SESSION_FAILED", details)
    assert ("Retry-After" in answer.response.headers) == (details == UNAVAILABLE)


FAULTS = [
    *(Behaviour(Fault.STATUS, status=status) for status in (204, 302, 429, 503)),
    Behaviour(Fault.HANG),
    Behaviour(Fault.TRICKLE_HEADERS, pause=0.01),
    Behaviour(Fault.JUNK),
    Behaviour(Fault.RESET),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.fault} {fault.status}")
async def test_failure_before_the_first_success_makes_sessions_unavailable(
    serve: Serve, fault: Behaviour
) -> None:
    async with vapi(fault) as stand_in:
        variables = SHORT_TIMEOUT if fault.fault in ENDLESS else CHECKED_ONCE
        service = await serve(**variables, VAPI_BASE_URL=stand_in.url)
        assert_unavailable(await service.start(sign()), UNAVAILABLE)
        ready = await service.ask("GET", "/readyz")
        assert (ready.status, ready.json["parts"]["vapi"]) == (200, "down")
        assert set(stand_in.requests) == {f"GET /assistant/{ASSISTANT_ID}"}


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_rejection_by_vapi_is_a_misconfiguration(
    serve: Serve, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with vapi(Behaviour(Fault.STATUS, status=status)) as stand_in:
        service = await serve(**CHECKED_ONCE, VAPI_BASE_URL=stand_in.url)
        assert_unavailable(await service.start(sign()), REJECTED)
        ready = await service.ask("GET", "/readyz")
        assert (ready.status, ready.json["parts"]["vapi"]) == (503, "misconfigured")
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "VAPI_API_KEY" in record.getMessage()
    assert PRIVATE_KEY not in caplog.text


@pytest.mark.parametrize("fault", [Fault.TRICKLE_BODY, Fault.HUGE], ids=str)
async def test_body_of_the_health_response_is_not_read(serve: Serve, fault: Fault) -> None:
    async with vapi(Behaviour(fault, pause=3600)) as stand_in:
        service = await serve(**CHECKED_ONCE, VAPI_BASE_URL=stand_in.url)
        assert (await service.start(sign())).status == 200


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_refused_connection_makes_sessions_unavailable(serve: Serve, scheme: str) -> None:
    service = await serve(**CHECKED_ONCE, VAPI_BASE_URL=f"{scheme}://{NOWHERE}")
    assert_unavailable(await service.start(sign()), UNAVAILABLE)


async def test_tls_failure_makes_sessions_unavailable(serve: Serve) -> None:
    async with vapi() as stand_in:
        address = stand_in.url.replace("http://", "https://")
        service = await serve(**CHECKED_ONCE, VAPI_BASE_URL=address)
        assert_unavailable(await service.start(sign()), UNAVAILABLE)


class Vapi:
    """A mock of Vapi with aioresponses: it answers as listed, then hangs."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = list(answers)
        self.given: list[int | Exception] = []
        self.all_given = asyncio.Event()

    async def answer(self, url: object, **kwargs: Any) -> CallbackResult:
        """Return the next answer."""
        assert str(url) == f"{MOCKED}/assistant/{ASSISTANT_ID}"
        assert kwargs["headers"]["Authorization"] == f"Bearer {PRIVATE_KEY}"
        if len(self.given) == len(self._answers):
            self.all_given.set()
            await asyncio.get_running_loop().create_future()
        answer = self._answers[len(self.given)]
        self.given.append(answer)
        if isinstance(answer, Exception):
            raise answer
        return CallbackResult(status=answer, response_class=Response)


class Response(aiohttp.ClientResponse):
    """A response as aioresponses makes them, for an aiohttp that also wants a stream writer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, stream_writer=Mock(output_size=0), **kwargs)


DOWN: list[int | Exception] = [503, aiohttp.ClientConnectionError("refused"), TimeoutError("slow")]


async def after(serve: Serve, *answers: int | Exception) -> Answer:
    """Start a session after Vapi has given these answers."""
    mocked = Vapi(*answers)
    with aioresponses(passthrough=["http://127.0.0.1"]) as mock:
        mock.get(f"{MOCKED}/assistant/{ASSISTANT_ID}", callback=mocked.answer, repeat=True)
        service = await serve(VAPI_BASE_URL=MOCKED, VAPI_CHECK_SECONDS="0.001")
        await mocked.all_given.wait()
        return await service.start(sign())


@pytest.mark.parametrize("failure", DOWN, ids=repr)
async def test_single_failure_after_a_success_changes_nothing(
    serve: Serve, failure: int | Exception
) -> None:
    assert (await after(serve, 200, failure)).status == 200


@pytest.mark.parametrize("failure", DOWN, ids=repr)
async def test_two_failures_in_a_row_make_sessions_unavailable(
    serve: Serve, failure: int | Exception
) -> None:
    assert_unavailable(await after(serve, 200, failure, failure), UNAVAILABLE)


@pytest.mark.parametrize(
    ("answers", "details"),
    [
        ((500,), UNAVAILABLE),
        ((500, 200), None),
        ((200, 500, 200, 500), None),
        ((200, 500, 500, 200), None),
        ((200, 401), REJECTED),
        ((200, 403, 200), None),
        ((404, 200, 500), None),
        ((404, 500), UNAVAILABLE),
        ((500, 500, 401), REJECTED),
    ],
)
async def test_latest_answers_decide(
    serve: Serve, answers: tuple[int, ...], details: str | None
) -> None:
    answer = await after(serve, *answers)
    if details is None:
        assert answer.status == 200
    else:
        assert_unavailable(answer, details)


async def test_recovery_of_vapi_is_noticed(serve: Serve) -> None:
    async with vapi(Behaviour(Fault.STATUS)) as stand_in:
        service = await serve(
            VAPI_BASE_URL=stand_in.url, VAPI_CHECK_SECONDS="0.01", VAPI_TIMEOUT_SECONDS="0.5"
        )
        assert_unavailable(await service.start(sign()), UNAVAILABLE)
        stand_in.behave(UP)
        async with asyncio.timeout(10):
            while (await service.ask("GET", "/readyz")).json["status"] != "ready":
                pass
        assert (await service.start(sign())).status == 200


# --- concurrency -----------------------------------------------------------------------------


async def test_500_concurrent_patients_get_their_own_sessions(
    serve: Serve, audit_lines: AuditLines
) -> None:
    service = await serve(VAPI_CREDENTIAL="session_token")
    patients = [f"pt_{number}" for number in range(500)]
    tokens = [sign(claims(id=patient)) for patient in patients]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        unlimited = Service(service.url, client, service.app)

        async def start(patient: str, token: str) -> Answer:
            body = {"patientContext": {"id": patient}}
            return await unlimited.start(token, json=body, headers={"X-Request-ID": f"r-{patient}"})

        answers = await asyncio.gather(*map(start, patients, tokens))
    assert [answer.status for answer in answers] == [200] * 500
    ids = [answer.json["data"]["patientContext"]["id"] for answer in answers]
    assert ids == patients
    names = [answer.response.headers["X-Request-ID"] for answer in answers]
    assert names == [f"r-{patient}" for patient in patients]
    noted = {line["request_id"]: line["patient"] for line in audit_lines()}
    assert noted == {f"r-{patient}": patient for patient in patients}


async def test_concurrent_requests_of_all_kinds_get_their_own_responses(serve: Serve) -> None:
    service = await serve(RATE_LIMIT="1/day", JWT_REQUIRED_SCOPE="voice")
    kinds: list[tuple[Callable[[int], str | None], str | None]] = [
        (lambda n: sign(claims(id=f"good_{n}", scope="voice")), None),
        (lambda _: None, "AUTH_TOKEN_MISSING"),
        (lambda _: sign(claims(exp=1)), "AUTH_TOKEN_EXPIRED"),
        (lambda n: sign(claims(id=f"nurse_{n}", type="nurse")), "FORBIDDEN"),
        (lambda n: sign(claims(id=f"scopeless_{n}")), "INSUFFICIENT_SCOPE"),
    ]
    requests = [(kind(number), code) for number in range(40) for kind, code in kinds]
    answers = await asyncio.gather(*(service.start(token) for token, _ in requests))
    assert [answer.code for answer in answers] == [code for _, code in requests]


# --- malformed input ---------------------------------------------------------------------------


@pytest.mark.parametrize("context", [None, {}, {"id": "a b"}])
async def test_malformed_patient_context_names_the_field(service: Service, context: object) -> None:
    answer = await service.start(sign(), json={"patientContext": context})
    assert (answer.status, answer.code) == (400, "INVALID_PATIENT_CONTEXT")
    assert answer.details.startswith("patientContext")


async def test_mismatch_names_neither_patient(service: Service) -> None:
    answer = await service.start(sign(), json={"patientContext": {"id": "pt_2"}})
    assert (answer.status, answer.code) == (403, "PATIENT_MISMATCH")
    assert "pt_1" not in answer.body.decode()
    assert "pt_2" not in answer.body.decode()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
BODIES = st.one_of(
    st.binary(max_size=400),
    st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    JSON_VALUES.map(lambda value: json.dumps({"patientContext": value}).encode()),
    JSON_VALUES.map(lambda value: json.dumps({"patientContext": {"id": value}}).encode()),
)
ANY_INPUT = hypothesis_settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
async def unlimited(serve: Serve) -> Service:
    """Return a service without a rate limit."""
    return await serve(RATE_LIMIT="off")


@ANY_INPUT
@given(body=BODIES, packed=st.sampled_from(["", "gzip", "deflate"]))
async def test_any_body_is_accepted_or_rejected(
    unlimited: Service, body: bytes, packed: str
) -> None:
    headers = {"Content-Type": "application/json"}
    if packed:
        headers["Content-Encoding"] = packed
    answer = await unlimited.start(sign(), data=body, headers=headers)
    assert answer.status in {200, 400, 403}, answer.body


@ANY_INPUT
@given(body=st.binary(max_size=50), media_type=st.text(st.characters(codec="latin-1"), max_size=40))
async def test_any_media_type_is_accepted_or_rejected(
    unlimited: Service, body: bytes, media_type: str
) -> None:
    visible = "".join(character for character in media_type if character.isprintable())
    headers = {"Content-Type": f"application/json;{visible}"}
    answer = await unlimited.start(sign(), data=body, headers=headers)
    assert answer.status in {200, 400, 415}, answer.body


@ANY_INPUT
@given(more=st.dictionaries(st.sampled_from(["id", "type", "exp", "iat", "jti"]), JSON_VALUES))
async def test_any_claims_are_accepted_or_rejected(
    unlimited: Service, more: dict[str, object]
) -> None:
    answer = await unlimited.start(sign(claims(**more)))
    assert answer.status in {200, 400, 401, 403}, answer.body

"""The external contract of the endpoint, over a real socket."""

import asyncio
import gzip
import json
import re
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from time import time

import jwt
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from middlewares.errors import ERRORS
from rig.redis_server import RedisServer
from rig.service import (
    ASSISTANT_ID,
    ORG_ID,
    PATH,
    PRIVATE_KEY,
    PUBLIC_KEY,
    Service,
    make_settings,
    running,
    sign,
)
from rig.wire import JSON_TYPE, WireAnswer, dial, exchange, head, post
from tests.conftest import AuditLines, Serve
from tests.server.api.test_openapi import CODES_OF_OTHER_PATHS, START, check
from tests.table import (
    CHUNKED,
    GZIP,
    INVALID_TOKEN,
    JSON,
    NOWHERE,
    SHORT,
    TABLE,
    Row,
    granted,
    nested,
    patient_context,
)

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def assert_standard_headers(answer: WireAnswer) -> None:
    """Check the headers of every response, and that none names the software."""
    headers = answer.headers
    assert headers["Content-Type"] == JSON_TYPE
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", headers["X-Request-ID"])
    assert re.search(r"\btotal;dur=\d+(\.\d+)?(,|$)", headers["Server-Timing"])
    assert "Server" not in headers
    assert "aiohttp" not in str(headers).lower()
    assert "python" not in str(headers).lower()
    for name in set(headers):
        assert len(headers.getall(name)) == 1, name


# --- success ---------------------------------------------------------------------------------


async def test_response_to_a_patient(service: Service, audit_lines: AuditLines) -> None:
    before = datetime.now(UTC)
    answer = await exchange(service, head("Content-Length: 0", token=sign()))
    assert answer.status == 200
    validated_at = answer.json["data"]["patientContext"].pop("validatedAt")
    assert answer.json | {"data": answer.json["data"] | {"patientContext": {"id": "pt_1"}}} == {
        "success": True,
        "data": {
            "apiKey": PUBLIC_KEY,
            "credentialType": "public_key",
            "expiresAt": None,
            "assistantId": ASSISTANT_ID,
            "patientContext": {"id": "pt_1"},
        },
        "message": "Vapi configuration retrieved",
    }
    assert _INSTANT.fullmatch(validated_at)
    assert abs(datetime.fromisoformat(validated_at) - before).total_seconds() < 30
    assert_standard_headers(answer)
    (line,) = audit_lines()
    assert (line["outcome"], line["status"], line["code"]) == ("granted", 200, None)
    assert line["credential_type"] == "public_key"
    assert line["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("origins", ["", "https://app.example.com, http://localhost:3000"])
async def test_session_token_is_restricted_to_the_assistant(
    serve: Serve, origins: str, audit_lines: AuditLines
) -> None:
    service = await serve(
        VAPI_CREDENTIAL="session_token",
        VAPI_TOKEN_TTL_SECONDS="60",
        VAPI_ALLOWED_ORIGINS=origins,
        VAPI_PUBLIC_API_KEY="",
    )
    before = int(time())
    data = (await service.start(sign())).json["data"]
    token = data["apiKey"]
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    payload = jwt.decode(token, PRIVATE_KEY, algorithms=["HS256"])
    assert before <= payload["iat"] <= time()
    restrictions = {
        "enabled": True,
        "allowedAssistantIds": [ASSISTANT_ID],
        "allowTransientAssistant": False,
    }
    if origins:
        restrictions["allowedOrigins"] = ["https://app.example.com", "http://localhost:3000"]
    assert payload == {
        "orgId": ORG_ID,
        "token": {"tag": "public", "restrictions": restrictions},
        "iat": payload["iat"],
        "exp": payload["iat"] + 60,
    }
    assert data["credentialType"] == "session_token"
    assert datetime.fromisoformat(data["expiresAt"]).timestamp() == payload["exp"]
    assert "pt_1" not in json.dumps(payload)
    assert audit_lines()[0]["credential_type"] == "session_token"


@pytest.mark.parametrize(
    ("claim", "patient"),
    [
        ("aZ0._:@|+/=-", "aZ0._:@|+/=-"),
        ("x" * 128, "x" * 128),
        (7, "7"),
        (7.0, "7"),
        (12345678901234567890, "12345678901234567890"),
    ],
)
async def test_patient_id_comes_from_the_token(
    service: Service, claim: object, patient: str
) -> None:
    answer = await service.start(granted(id=claim), json={"patientContext": {"id": patient}})
    assert answer.json["data"]["patientContext"]["id"] == patient


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(head, id="no body"),
        pytest.param(lambda **kw: head("Content-Length: 0", "Content-Type: x/y", **kw), id="empty"),
        pytest.param(lambda **kw: head(CHUNKED, **kw) + b"0\r\n\r\n", id="chunked and empty"),
        pytest.param(
            lambda **kw: post(gzip.compress(b""), GZIP, **kw), id="decompresses to nothing"
        ),
        pytest.param(lambda **kw: post(b"{}", **kw), id="empty object"),
        pytest.param(lambda **kw: post(b' \r\n\t{ "x": [1, {}] } ', **kw), id="unknown fields"),
        pytest.param(
            lambda **kw: (
                head("Content-Length: 2", "Content-Type: application/json; charset=utf-8", **kw)
                + b"{}"
            ),
            id="charset",
        ),
        pytest.param(
            lambda **kw: (
                head(
                    "Content-Length: 2",
                    'Content-Type: Application/JSON ;a=b; CharSet="UTF-8"',
                    **kw,
                )
                + b"{}"
            ),
            id="other spelling of the charset",
        ),
        pytest.param(
            lambda **kw: post(patient_context({"id": "pt_1", "name": "n"}), **kw), id="own context"
        ),
        pytest.param(lambda **kw: post(nested(32), **kw), id="32 containers deep"),
        pytest.param(lambda **kw: post('{"ä": "日本"}'.encode(), **kw), id="not ASCII"),
        pytest.param(lambda **kw: post(gzip.compress(b"{}"), GZIP, **kw), id="gzip"),
        pytest.param(
            lambda **kw: post(zlib.compress(b"{}"), "Content-Encoding: deflate", **kw), id="deflate"
        ),
        pytest.param(
            lambda **kw: head(CHUNKED, JSON, **kw) + b"1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n",
            id="chunked",
        ),
        pytest.param(lambda **kw: post(b"{}".ljust(16384), **kw), id="as large as allowed"),
        pytest.param(lambda **kw: post(b'{"a":"\\ud83d"}', **kw), id="half of a pair"),
        pytest.param(lambda **kw: post(b'{"a":' + b"9" * 5000 + b"}", **kw), id="long integer"),
        pytest.param(lambda **kw: head("Content-Encoding: br", **kw), id="absent, with a coding"),
    ],
)
async def test_valid_body_is_accepted(service: Service, sent: Callable[..., bytes]) -> None:
    answer = await exchange(service, sent(token=sign()))
    assert (answer.status, answer.json.get("error")) == (200, None)


@pytest.mark.parametrize("coding", ["compress", "br", "gzip, gzip", "\u00e9"])
async def test_unsupported_content_coding(service: Service, coding: str) -> None:
    answer = await exchange(service, post(b"{}", f"Content-Encoding: {coding}", token=sign()))
    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    details = "The content coding is not supported; use gzip or deflate"
    assert answer.json["error"]["details"] == details


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "bEaReR   "])
async def test_scheme_is_case_insensitive_and_spaces_may_repeat(
    service: Service, scheme: str
) -> None:
    answer = await exchange(service, head(f"Authorization: {scheme} {sign()}"))
    assert answer.status == 200


async def test_token_outside_the_header_is_ignored(service: Service) -> None:
    token = sign()
    body = json.dumps({"token": token, "access_token": token}).encode()
    sent = head(
        f"Cookie: token={token}; Authorization=Bearer {token}",
        f"X-Authorization: Bearer {token}",
        f"Content-Length: {len(body)}",
        JSON,
        path=f"{PATH}?token={token}&access_token={token}&Authorization=Bearer%20{token}",
    )
    answer = await exchange(service, sent + body)
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_MISSING")


@pytest.mark.parametrize("offered", ["a", "A-z_0.9", "x" * 128])
async def test_valid_request_id_is_kept(service: Service, offered: str) -> None:
    answer = await exchange(service, head(f"X-Request-ID: {offered}", token=sign()))
    assert answer.headers["X-Request-ID"] == offered


@pytest.mark.parametrize(
    "offered", [b"", b"x" * 129, b"a b", b"a/b", b"\xff\xfe", b"a\tb", b'{"a":1}', "é".encode()]
)
async def test_invalid_request_id_is_replaced(service: Service, offered: bytes) -> None:
    answer = await exchange(service, head(b"X-Request-ID: " + offered, token=sign()))
    assert answer.status == 200
    assert_standard_headers(answer)
    assert offered.decode("latin-1") not in answer.headers.getall("X-Request-ID")


async def test_pipelined_requests_are_answered_in_order(service: Service) -> None:
    async with dial(service) as wire:
        await wire.send(post(b"{}", token=granted(id="one")) + post(b"{}", token=granted(id="two")))
        for patient in ("one", "two"):
            answer = await wire.answer()
            assert answer.json["data"]["patientContext"]["id"] == patient


# --- the table of errors -----------------------------------------------------------------------


RETRIES = {"AUTH_UNAVAILABLE", "VAPI_SESSION_FAILED"}


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_every_row_of_the_table(serve: Serve, row: Row, audit_lines: AuditLines) -> None:
    service = await serve(**row.variables)
    answer = await exchange(service, row.sent())
    assert (answer.status, answer.code) == (row.status, row.code)
    assert_envelope(answer)
    if row.code not in CODES_OF_OTHER_PATHS:
        check(answer, START)
    assert row.details in {None, answer.details}
    assert answer.headers.get("WWW-Authenticate") == row.challenge
    assert answer.headers.get("Allow") == row.allow
    assert not row.closes or answer.headers["Connection"] == "close"
    assert ("Retry-After" in answer.headers) == (row.code in RETRIES)
    assert re.fullmatch(r"[1-9]\d*|None", str(answer.headers.get("Retry-After")))
    for line in audit_lines():
        assert (line["outcome"], line["status"], line["code"]) == ("denied", row.status, row.code)
        assert line["reason"] == row.reason


def assert_envelope(answer: WireAnswer) -> None:
    """Check the shape of an error, and its message."""
    assert_standard_headers(answer)
    assert list(answer.json) == ["success", "error"]
    assert answer.json["success"] is False
    error = answer.json["error"]
    assert list(error) == ["code", "message", "details"]
    assert all(isinstance(value, str) and value for value in error.values())
    assert error["message"] == next(
        kind.message for code, kind in ERRORS.items() if code == error["code"]
    )


def test_table_has_every_code() -> None:
    elsewhere = {"AUTH_TOKEN_REVOKED", "RATE_LIMITED", "INTERNAL_ERROR", "SESSION_TIMEOUT"}
    elsewhere |= {
        "AUDIT_UNAVAILABLE",
        "ASSISTANT_NOT_ALLOWED",
        "CONSENT_REQUIRED",
        "CALL_LIMIT_REACHED",
    }
    assert {row.code for row in TABLE} | elsewhere == set(ERRORS)


async def test_rate_limit_has_retry_after(serve: Serve, audit_lines: AuditLines) -> None:
    service = await serve(RATE_LIMIT="2/minute")
    for _ in range(2):
        assert (await exchange(service, head(token=sign()))).status == 200
    answer = await exchange(service, head(token=sign()))
    assert (answer.status, answer.code) == (429, "RATE_LIMITED")
    assert_envelope(answer)
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert (await exchange(service, head(token=granted(id="another")))).status == 200
    assert [line["code"] for line in audit_lines()] == [None, None, "RATE_LIMITED", None]


@web.middleware
async def crash(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Raise an unexpected exception."""
    raise ZeroDivisionError("an unexpected error")


@web.middleware
async def stick(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Never respond."""
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


async def test_unexpected_error_names_the_request_and_is_logged(
    caplog: pytest.LogCaptureFixture, audit_lines: AuditLines
) -> None:
    async with running(make_settings(), crash) as service:
        answer = await exchange(service, head("X-Request-ID: find-me", token=sign()))
    assert (answer.status, answer.code) == (500, "INTERNAL_ERROR")
    assert_envelope(answer)
    assert "find-me" in answer.details
    assert "unexpected error" not in str(answer)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert vars(record)["request_id"] == "find-me"
    assert "an unexpected error" in caplog.text
    assert [line["status"] for line in audit_lines()] == [500]


async def test_timeout_of_the_service_is_not_a_timeout_of_the_client(
    audit_lines: AuditLines,
) -> None:
    async with running(make_settings(**SHORT), stick) as service:
        answer = await exchange(service, post(b"{}", token=sign()))
    assert (answer.status, answer.code) == (504, "SESSION_TIMEOUT")
    assert_envelope(answer)
    assert [line["status"] for line in audit_lines()] == [504]


async def test_disconnected_client_is_audited_and_its_request_cancelled(
    audit_lines: AuditLines,
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    @web.middleware
    async def work(request: web.Request, handler: Handler) -> web.StreamResponse:
        begun.set()
        try:
            return await stick(request, handler)
        finally:
            ended.set()

    async with running(make_settings(), work) as service, dial(service) as wire:
        await wire.send(head(token=sign()))
        await begun.wait()
        wire.leave()
        await ended.wait()
    assert [(line["outcome"], line["status"]) for line in audit_lines()] == [("denied", 499)]


# --- the order of checks -----------------------------------------------------------------------


async def test_checks_run_in_the_documented_order(serve: Serve) -> None:
    service = await serve(
        VAPI_BASE_URL=f"http://{NOWHERE}",
        VAPI_CHECK_SECONDS="30",
        JWT_REQUIRED_SCOPE="voice",
        RATE_LIMIT="1/day",
    )
    nurse, old = granted(type="nurse", id=""), granted(type="nurse", exp=1)
    scopeless, nameless = granted(id=""), granted(scope="voice", id="")
    one, two = granted(scope="voice", id="one"), granted(scope="voice", id="two")
    steps = [
        (head(path="/elsewhere", method="GET"), "NOT_FOUND"),
        (head(method="GET"), "METHOD_NOT_ALLOWED"),
        (post(b"["), "AUTH_TOKEN_MISSING"),
        (post(b"[", token=old), "AUTH_TOKEN_EXPIRED"),
        (post(b"[", token=nurse), "FORBIDDEN"),
        (post(b"[", token=scopeless), "INSUFFICIENT_SCOPE"),
        (post(b"[", token=nameless), "INVALID_PATIENT_CONTEXT"),
        (post(b"[", token=one), "INVALID_REQUEST"),
        (post(b"[", token=one), "RATE_LIMITED"),
        (post(b"{}", token=two), "VAPI_SESSION_FAILED"),
    ]
    for sent, code in steps:
        assert (await exchange(service, sent)).code == code


@pytest.mark.redis
async def test_revocation_is_checked_right_after_authentication(
    serve: Serve, redis_server: RedisServer
) -> None:
    await redis_server.execute("SET", "{vapi-sessions}:revoked:jti:t1", "1")
    await redis_server.execute("SET", "{vapi-sessions}:revoked:patient:pt_9", "1")
    service = await serve(REDIS_URL=redis_server.url, RATE_LIMIT="1/day")
    for token in (granted(jti="t1", type="nurse"), granted(id="pt_9")):
        for _ in range(2):
            answer = await exchange(service, head(token=token))
            assert (answer.status, answer.code) == (401, "AUTH_TOKEN_REVOKED")
            assert_envelope(answer)
            assert answer.headers["WWW-Authenticate"] == INVALID_TOKEN
    old = await exchange(service, head(token=granted(jti="t1", exp=1)))
    assert old.code == "AUTH_TOKEN_EXPIRED"
    assert (await exchange(service, head(token=granted(jti="t2")))).status == 200


# --- bodies that are not read --------------------------------------------------------------------

UNWANTED = [
    pytest.param({}, "AUTH_TOKEN_MISSING", id="no token"),
    pytest.param({"token": "a.b.c"}, "AUTH_TOKEN_INVALID", id="invalid token"),
    pytest.param({"token": granted(type="nurse")}, "FORBIDDEN", id="another role"),
    pytest.param({"path": "/elsewhere"}, "NOT_FOUND", id="another path"),
    pytest.param({"path": "/healthz"}, "METHOD_NOT_ALLOWED", id="another method"),
]


@pytest.mark.parametrize(("request_", "code"), UNWANTED)
async def test_unwanted_body_is_not_awaited(
    service: Service, request_: dict[str, str], code: str
) -> None:
    for announced in (
        "Content-Length: 100",
        CHUNKED,
        "Content-Length: 100\r\nContent-Encoding: gzip",
        "Content-Length: 2\r\nExpect: 100-continue",
    ):
        assert (await exchange(service, head(announced, JSON, **request_))).code == code


async def test_unusable_body_gets_no_100_continue(service: Service) -> None:
    for lines, code in (
        (["Content-Length: 16385", JSON], "PAYLOAD_TOO_LARGE"),
        (["Content-Length: 2", "Content-Type: text/plain"], "UNSUPPORTED_MEDIA_TYPE"),
    ):
        answer = await exchange(service, head("Expect: 100-continue", *lines, token=sign()))
        assert answer.code == code


@pytest.mark.parametrize("expectation", ["100-continue", "100-Continue"])
async def test_wanted_body_gets_100_continue(service: Service, expectation: str) -> None:
    async with dial(service) as wire:
        await wire.send(head(f"Expect: {expectation}", "Content-Length: 16384", JSON, token=sign()))
        assert (await wire.answer()).status == 100
        await wire.send(b"{}".ljust(16384))
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize(
    ("announced", "body"),
    [
        pytest.param((CHUNKED,), b"zz\r\n{}\r\n0\r\n\r\n", id="malformed chunk size"),
        pytest.param((CHUNKED,), b"1\r\n{}\r\n0\r\n\r\n", id="chunk longer than its size"),
        pytest.param(("Content-Length: 4", GZIP), b"junk", id="not gzip"),
        pytest.param(
            ("Content-Length: 8", "Content-Encoding: deflate"),
            zlib.compress(b"{}")[:8],
            id="truncated deflate",
        ),
    ],
)
@pytest.mark.parametrize(
    ("token", "status"), [(granted(), 400), (None, 401)], ids=["valid token", "no token"]
)
async def test_malformed_body_is_answered_at_once_without_a_trace(
    service: Service,
    announced: tuple[str, ...],
    body: bytes,
    token: str | None,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with dial(service) as wire:
        await wire.send_parts(head(*announced, JSON, token=token), body)
        answer = await wire.answer()
        assert answer.status == status
        assert_envelope(answer)
        if token is not None:
            details = "The body is incomplete or cannot be decompressed"
            assert answer.json["error"]["details"] == details
        if token is not None or CHUNKED in announced:  # otherwise the body is complete and unread
            assert await wire.rest() == b""
    assert "Traceback" not in caplog.text


async def test_junk_after_a_request_does_not_affect_its_response(service: Service) -> None:
    async with dial(service) as wire:
        await wire.send_parts(post(b"{}", token=sign()), b"not HTTP\r\n\r\n")
        assert (await wire.answer()).status == 200
        assert (await wire.answer()).code == "INVALID_REQUEST"
        assert await wire.rest() == b""


async def test_request_can_arrive_byte_by_byte(service: Service) -> None:
    async with dial(service) as wire:
        for byte in post(patient_context({"id": "pt_1"}), token=sign()):
            await wire.send_parts(bytes([byte]))
        assert (await wire.answer()).status == 200


# --- browsers --------------------------------------------------------------------------------


async def test_listed_origin_and_preflight(serve: Serve, audit_lines: AuditLines) -> None:
    service = await serve(CORS_ALLOWED_ORIGINS="https://app.example.com")
    origin = "Origin: https://app.example.com"
    preflight = head(origin, "Access-Control-Request-Method: POST", method="OPTIONS")
    answer = await exchange(service, preflight)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert audit_lines() == []
    refused = await exchange(service, head(origin))
    assert refused.status == 401
    assert refused.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert len(audit_lines()) == 1


async def test_unlisted_origin_gets_no_cors_headers(service: Service) -> None:
    preflight = head(
        "Origin: https://a.test", "Access-Control-Request-Method: POST", method="OPTIONS"
    )
    answer = await exchange(service, preflight)
    assert answer.code == "METHOD_NOT_ALLOWED"
    assert not any(name.lower().startswith("access-control") for name in answer.headers)

"""Authentication: strict reading of the bearer token."""

import json
import re
from collections.abc import Sequence

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from middlewares.authentication import MAX_TOKEN_BYTES, authentication, bearer_token
from middlewares.context import PRINCIPAL, Principal
from middlewares.errors import ApiError, ErrorCode, error_handler
from tests.middlewares.support import (
    PATIENT,
    Alone,
    Client,
    error_code_of,
    log_records,
    outcome,
    send_raw,
)

TOKEN = "eyJh-1.eyJp_2.c2ln3"
LONGEST = "a" * (MAX_TOKEN_BYTES - 4) + ".b.c"
SYNTAX = "Authorization must be: Bearer <JWT>, a compact JWS of three base64url segments"


async def authenticate(token: str) -> Principal:
    if token != TOKEN:
        raise ApiError(ErrorCode.AUTH_TOKEN_INVALID, "not the token of these tests")
    return PATIENT


async def patient_id(request: web.Request) -> web.Response:
    return web.Response(text=request[PRINCIPAL].patient_id)


@pytest.fixture
async def client(alone: Alone) -> Client:
    return await alone(
        error_handler(), authentication(authenticate=authenticate), handler=patient_id
    )


# --- the header ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "bEaReR ", "Bearer     "])
def test_scheme_is_case_insensitive_and_spaces_may_repeat(scheme: str) -> None:
    assert bearer_token([scheme + TOKEN]) == TOKEN


MALFORMED = [
    *["", "Bearer", "Bearer ", TOKEN, f"Bearer{TOKEN}", f"BearerX {TOKEN}", f"XBearer {TOKEN}"],
    *[f"Bearer: {TOKEN}", f"Basic {TOKEN}", "Basic cHQ6cHQ=", f"Token {TOKEN}", f"JWT {TOKEN}"],
    *[f"Bearer {TOKEN} {TOKEN}", f"Bearer {TOKEN},Bearer {TOKEN}", f"Bearer {TOKEN}, {TOKEN}"],
    *[f"Bearer {TOKEN};", f"Bearer Bearer {TOKEN}", f'Bearer "{TOKEN}"', f" Bearer {TOKEN}"],
    *[f"Bearer\t{TOKEN}", f"Bearer \t{TOKEN}", f"Bearer {TOKEN} ", f"Bearer {TOKEN}\n"],
    *[f"Bearer {TOKEN}=", f"Bearer {TOKEN}.d", f"Bearer .{TOKEN}", f"Bearer {TOKEN}%3D"],
    *["Bearer a", "Bearer a.b", "Bearer a.b.c.d", "Bearer a.b.c.d.e", "Bearer ..", "Bearer a..c"],
    *["Bearer a.b.", "Bearer .b.c", "Bearer a+b.c/d.e", "Bearer \u00e4.b.c", "Bearer a.b.\udcff"],
    *[f"Bearer\u00a0{TOKEN}", f"Bearer\u2003{TOKEN}", f"\uff22earer {TOKEN}"],
    *["Bearer \u0661.\u0662.\u0663", f"Bearer {TOKEN}\u2028"],
]


@pytest.mark.parametrize("value", MALFORMED)
def test_malformed_header_is_an_invalid_token(value: str) -> None:
    with pytest.raises(ApiError) as caught:
        bearer_token([value])
    assert (caught.value.code, caught.value.details) == (ErrorCode.AUTH_TOKEN_INVALID, SYNTAX)


def test_maximum_token_size() -> None:
    assert len(LONGEST) == 16000
    assert bearer_token([f"Bearer {LONGEST}"]) == LONGEST
    with pytest.raises(ApiError) as caught:
        bearer_token([f"Bearer {LONGEST}d"])
    assert caught.value.code is ErrorCode.AUTH_TOKEN_INVALID
    assert caught.value.details == "The token is longer than 16000 bytes"


any_text = st.text(st.characters(exclude_categories=()))
nearly = st.lists(
    st.sampled_from(["Bearer", "bearer", " ", "  ", "a", "Z-_9", ".", "=", "\t", "\n", "\udcff"]),
    max_size=10,
).map("".join)


@given(any_text | nearly | nearly.map("Bearer ".__add__))
def test_any_header_gives_a_token_or_is_invalid(value: str) -> None:
    token = outcome(bearer_token, [value])
    if token != ErrorCode.AUTH_TOKEN_INVALID:
        assert re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}", token)
        assert value[:6].lower() == "bearer"
        assert value[6:].lstrip(" ") == token
        assert value[6] == " "


@given(st.lists(any_text | nearly, min_size=2))
def test_any_two_headers_are_an_invalid_request(values: Sequence[str]) -> None:
    assert error_code_of(bearer_token, values) == ErrorCode.INVALID_REQUEST


@given(
    st.from_regex(
        re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] {1,9}[\w-]{1,9}\.[\w-]{1,9}\.[\w-]{1,9}", re.ASCII),
        fullmatch=True,
    )
)
def test_any_well_formed_token_is_read(value: str) -> None:
    assert bearer_token([value]) == value.rsplit(" ", maxsplit=1)[-1]


# --- on the wire --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"Authorization", b"authorization", b"aUtHoRiZaTiOn"])
async def test_valid_token_sets_the_principal(client: Client, name: bytes) -> None:
    response = await send_raw(client, name + f": Bearer {TOKEN}".encode())
    assert (response.status, response.body) == (200, b"pt_1")


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer x.y.z",
        b"Bearer \xff.b.c",
        b"\xff\xfe " + TOKEN.encode(),
        b"Bearer \xed\xa0\x80.b.c",
        b"Bearer " + TOKEN.encode() + b"\x80",
        b"Bearer\xa0" + TOKEN.encode(),
        b"\xc2\x85Bearer " + TOKEN.encode(),
    ],
)
async def test_invalid_token_gets_a_challenge_and_is_not_logged(
    client: Client, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    response = await send_raw(client, b"Authorization: " + value)
    assert response.status == 401
    assert json.loads(response.body)["error"]["code"] == "AUTH_TOKEN_INVALID"
    assert b'WWW-Authenticate: Bearer realm="vapi-sessions", error="invalid_token"' in response.head
    assert log_records(caplog) == []


@pytest.mark.parametrize("control", [b"\x00", b"\x01", b"\x0b", b"\x1b[2J", b"\x7f", b"\n", b"\r"])
async def test_control_characters_are_rejected_by_the_parser(
    client: Client, control: bytes
) -> None:
    response = await send_raw(client, b"Authorization: Bearer " + control + TOKEN.encode())
    assert response.status == 400


async def test_missing_header(client: Client) -> None:
    response = await send_raw(client)
    assert response.status == 401
    error = json.loads(response.body)["error"]
    assert error["code"] == "AUTH_TOKEN_MISSING"
    assert error["details"] == "Send the patient's token: Authorization: Bearer <JWT>"
    assert b'WWW-Authenticate: Bearer realm="vapi-sessions"\r\n' in response.head + b"\r\n"


@pytest.mark.parametrize(
    "second",
    [f"Authorization: Bearer {TOKEN}", f"authorization: Bearer {TOKEN}", "Authorization:"],
)
async def test_two_headers_are_an_invalid_request(client: Client, second: str) -> None:
    response = await send_raw(client, f"Authorization: Bearer {TOKEN}".encode(), second.encode())
    assert response.status == 400
    error = json.loads(response.body)["error"]
    assert error["code"] == "INVALID_REQUEST"
    assert error["details"] == "Send exactly one Authorization header"


async def test_token_outside_the_header_is_ignored(client: Client) -> None:
    async with client.post(
        f"/?access_token={TOKEN}&token={TOKEN}&Authorization=Bearer%20{TOKEN}",
        headers={
            "Cookie": f"token={TOKEN}; Authorization=Bearer {TOKEN}",
            "Proxy-Authorization": f"Bearer {TOKEN}",
            "X-Authorization": f"Bearer {TOKEN}",
        },
        data={"access_token": TOKEN},
    ) as response:
        assert response.status == 401
        assert (await response.json())["error"]["code"] == "AUTH_TOKEN_MISSING"


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "HEAD", "PUT"])
async def test_every_method_is_authenticated(client: Client, method: str) -> None:
    async with client.request(method, "/") as response:
        assert response.status == 401


@pytest.mark.parametrize("code", [ErrorCode.AUTH_TOKEN_EXPIRED, ErrorCode.AUTH_UNAVAILABLE])
async def test_rejected_request_does_not_reach_the_handler(alone: Alone, code: ErrorCode) -> None:
    reached: list[web.Request] = []

    async def reject(_: str) -> Principal:
        raise ApiError(code, "no")

    async def handler(request: web.Request) -> web.Response:
        reached.append(request)
        return web.Response()

    client = await alone(error_handler(), authentication(authenticate=reject), handler=handler)
    response = await send_raw(client, f"Authorization: Bearer {TOKEN}".encode())
    assert json.loads(response.body)["error"]["code"] == code
    assert reached == []


async def test_error_of_the_handler_is_not_an_invalid_token(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_: web.Request) -> web.Response:
        raise ValueError

    client = await alone(
        error_handler(), authentication(authenticate=authenticate), handler=handler
    )
    response = await send_raw(client, f"Authorization: Bearer {TOKEN}".encode())
    assert response.status == 500
    assert len(log_records(caplog)) == 1

"""Authentication: strict reading of the bearer token."""

import json
import re
from collections.abc import Sequence

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from middlewares.api_errors import ApiError, ErrorCode
from middlewares.authentication import MAX_TOKEN_BYTES, Authenticate, authentication, bearer_token
from middlewares.error_handler import error_handler
from middlewares.request_context import PRINCIPAL, Principal
from tests.middlewares.support import NOW, PATIENT, Alone, outcome, refused, say, told
from tests.middlewares.tokens import RULES, SECRET, admit, claims, compact, make_decoder

TOKEN = compact(claims())
LONGEST = "a" * (MAX_TOKEN_BYTES - 4) + ".b.c"


def make_authenticate() -> Authenticate:
    decode = make_decoder("HS256", SECRET)

    async def authenticate(token: str) -> Principal:
        return admit(RULES, await decode(token))

    return authenticate


async def whoami(request: web.Request) -> web.Response:
    return web.Response(text=request[PRINCIPAL].patient_id)


# The header


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer {TOKEN}",
        f"bearer {TOKEN}",
        f"BEARER {TOKEN}",
        f"bEaReR {TOKEN}",
        f"Bearer     {TOKEN}",
        f"Bearer {' ' * 100}{TOKEN}",
    ],
)
async def test_bearer_token_sets_principal(alone: Alone, value: str) -> None:
    client = await alone(
        error_handler(), authentication(authenticate=make_authenticate()), handler=whoami
    )
    heard = await say(client, f"Authorization: {value}".encode())
    assert (heard.status, heard.body) == (200, b"pt_1")


@pytest.mark.parametrize("name", [b"authorization", b"AUTHORIZATION", b"aUtHoRiZaTiOn"])
async def test_header_name_is_case_insensitive(alone: Alone, name: bytes) -> None:
    client = await alone(
        error_handler(), authentication(authenticate=make_authenticate()), handler=whoami
    )
    assert (await say(client, name + f": Bearer {TOKEN}".encode())).status == 200


MALFORMED = [
    "",
    "Bearer",
    "Bearer ",
    TOKEN,
    f"Bearer{TOKEN}",
    f"BearerX {TOKEN}",
    f"XBearer {TOKEN}",
    f"Bearer: {TOKEN}",
    f"Basic {TOKEN}",
    "Basic cHQ6cHQ=",
    f"Token {TOKEN}",
    f"JWT {TOKEN}",
    f"Bearer {TOKEN} {TOKEN}",
    f"Bearer {TOKEN},Bearer {TOKEN}",
    f"Bearer {TOKEN}, Bearer {TOKEN}",
    f"Bearer {TOKEN};",
    f"Bearer Bearer {TOKEN}",
    f'Bearer "{TOKEN}"',
    f"Bearer\t{TOKEN}",
    f"Bearer \t{TOKEN}",
    f"Bearer {TOKEN}=",
    f"Bearer {TOKEN}.d",
    f"Bearer .{TOKEN}",
    "Bearer a",
    "Bearer a.b",
    "Bearer a.b.c.d",
    "Bearer a.b.c.d.e",
    "Bearer ..",
    "Bearer a..c",
    "Bearer a.b.",
    "Bearer .b.c",
    "Bearer a+b.c/d.e",
    "Bearer a%2Eb.c.d",
    "Bearer \u00e4.b.c",
    f"Bearer\u00a0{TOKEN}",
    f"Bearer\u2003{TOKEN}",
    f"\uff22earer {TOKEN}",
    "Bearer \u0661.\u0662.\u0663",
    f"Bearer {TOKEN}\u2028",
    f"Bearer {LONGEST}d",
]


@pytest.mark.parametrize("value", MALFORMED)
async def test_malformed_header_is_invalid_token_and_not_logged(
    alone: Alone, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    client = await alone(
        error_handler(), authentication(authenticate=make_authenticate()), handler=whoami
    )
    heard = await say(client, f"Authorization: {value}".encode())
    assert heard.status == 401
    assert json.loads(heard.body)["error"]["code"] == "AUTH_TOKEN_INVALID"
    assert b'WWW-Authenticate: Bearer realm="vapi-sessions", error="invalid_token"' in heard.head
    assert told(caplog) == []


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer \xff.b.c",
        b"Bearer \xff\xfe\xfd",
        b"\xff\xfe " + TOKEN.encode(),
        b"Bearer \xc3\x28.b.c",
        b"Bearer \xed\xa0\x80.b.c",
        b"Bearer " + TOKEN.encode() + b"\x80",
        b"Bearer\xa0" + TOKEN.encode(),
        b"\xc2\x85Bearer " + TOKEN.encode(),
    ],
)
async def test_non_utf8_header_is_invalid_token(
    alone: Alone, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    client = await alone(
        error_handler(), authentication(authenticate=make_authenticate()), handler=whoami
    )
    heard = await say(client, b"Authorization: " + value)
    assert heard.status == 401
    assert json.loads(heard.body)["error"]["code"] == "AUTH_TOKEN_INVALID"
    assert told(caplog) == []


@pytest.mark.parametrize("control", [b"\x00", b"\x01", b"\x0b", b"\x1b[2J", b"\x7f", b"\n", b"\r"])
async def test_control_characters_are_rejected_by_the_parser(alone: Alone, control: bytes) -> None:
    client = await alone(
        error_handler(), authentication(authenticate=make_authenticate()), handler=whoami
    )
    heard = await say(client, b"Authorization: Bearer " + control + TOKEN.encode())
    assert heard.status == 400


async def test_missing_header(alone: Alone) -> None:
    client = await alone(
        error_handler(), authentication(authenticate=make_authenticate()), handler=whoami
    )
    heard = await say(client)
    assert heard.status == 401
    assert json.loads(heard.body)["error"]["code"] == "AUTH_TOKEN_MISSING"
    assert b'WWW-Authenticate: Bearer realm="vapi-sessions"\r\n' in heard.head + b"\r\n"


@pytest.mark.parametrize(
    "second",
    [f"Authorization: Bearer {TOKEN}", f"authorization: Bearer {TOKEN}", "Authorization: Basic x"],
)
async def test_two_headers_are_an_invalid_request(alone: Alone, second: str) -> None:
    client = await alone(
        error_handler(), authentication(authenticate=make_authenticate()), handler=whoami
    )
    heard = await say(client, f"Authorization: Bearer {TOKEN}".encode(), second.encode())
    assert heard.status == 400
    assert json.loads(heard.body)["error"]["code"] == "INVALID_REQUEST"


async def test_token_outside_the_header_is_ignored(alone: Alone) -> None:
    client = await alone(
        error_handler(), authentication(authenticate=make_authenticate()), handler=whoami
    )
    async with client.post(
        f"/?access_token={TOKEN}&token={TOKEN}",
        headers={
            "Cookie": f"token={TOKEN}; Authorization=Bearer {TOKEN}",
            "Proxy-Authorization": f"Bearer {TOKEN}",
            "X-Authorization": f"Bearer {TOKEN}",
        },
        data={"access_token": TOKEN},
    ) as answer:
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "AUTH_TOKEN_MISSING"


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "HEAD", "PUT"])
async def test_every_method_is_authenticated(alone: Alone, method: str) -> None:
    client = await alone(
        error_handler(), authentication(authenticate=make_authenticate()), handler=whoami
    )
    async with client.request(method, "/") as answer:
        assert answer.status == 401


# The token


@pytest.mark.parametrize(
    "token",
    [
        compact(claims(), secret=b"another secret that is as long as it would have to be"),
        compact(claims(), {"alg": "HS256", "crit": ["a\nb"]}),
        compact(claims(), {"alg": "HS256", "crit": ["a\r\nX: 1"]}, secret=b"forged" * 8),
        compact(claims(), {"alg": "HS256", "crit": []}),
        compact(claims(), {"alg": "none"}),
        compact(claims(), {"alg": "HS256\nX"}, secret=b"forged" * 8),
        compact(claims(), {"alg": 7}),
        compact(claims(), {"alg": "HS256", "kid": ["a\nb"]}),
        compact(claims(), b"\xff"),
        compact(b"not json"),
        "a.b.c",
        "-.-.-",
    ],
)
async def test_hostile_token_is_invalid_and_not_logged(
    alone: Alone, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    client = await alone(
        error_handler(), authentication(authenticate=make_authenticate()), handler=whoami
    )
    heard = await say(client, f"Authorization: Bearer {token}".encode())
    assert heard.status == 401
    assert json.loads(heard.body)["error"]["code"] == "AUTH_TOKEN_INVALID"
    assert told(caplog) == []


async def test_expired_token(alone: Alone) -> None:
    client = await alone(
        error_handler(), authentication(authenticate=make_authenticate()), handler=whoami
    )
    token = compact(claims(exp=NOW - 1))
    heard = await say(client, f"Authorization: Bearer {token}".encode())
    assert heard.status == 401
    assert json.loads(heard.body)["error"]["code"] == "AUTH_TOKEN_EXPIRED"


async def test_token_is_passed_unchanged_and_principal_recorded(
    alone: Alone,
) -> None:
    seen: list[object] = []

    async def authenticate(token: str) -> Principal:
        seen.append(token)
        return PATIENT

    async def handler(request: web.Request) -> web.Response:
        seen.append(request[PRINCIPAL])
        return web.Response()

    client = await alone(authentication(authenticate=authenticate), handler=handler)
    await say(client, b"Authorization: Bearer  a-1.b_2.C3")
    assert seen == ["a-1.b_2.C3", PATIENT]


@pytest.mark.parametrize("code", [ErrorCode.AUTH_TOKEN_REVOKED, ErrorCode.AUTH_UNAVAILABLE])
async def test_rejection_records_no_principal(alone: Alone, code: ErrorCode) -> None:
    reached: list[web.Request] = []

    async def authenticate(_: str) -> Principal:
        raise ApiError(code, "no")

    async def handler(request: web.Request) -> web.Response:
        reached.append(request)
        return web.Response()

    client = await alone(
        error_handler(), authentication(authenticate=authenticate), handler=handler
    )
    heard = await say(client, f"Authorization: Bearer {TOKEN}".encode())
    assert json.loads(heard.body)["error"]["code"] == code
    assert reached == []


async def test_error_of_the_handler_is_not_an_invalid_token(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_: web.Request) -> web.Response:
        raise ValueError

    client = await alone(
        error_handler(), authentication(authenticate=make_authenticate()), handler=handler
    )
    heard = await say(client, f"Authorization: Bearer {TOKEN}".encode())
    assert heard.status == 500
    assert len(told(caplog)) == 1


# Any header at all


def test_maximum_token_size() -> None:
    assert len(LONGEST) == 8000
    assert bearer_token([f"Bearer {LONGEST}"]) == LONGEST
    assert refused(bearer_token, [f"Bearer {LONGEST}d"]) == ErrorCode.AUTH_TOKEN_INVALID


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
def test_any_two_headers_are_invalid(values: Sequence[str]) -> None:
    assert refused(bearer_token, values) == ErrorCode.INVALID_REQUEST


@given(
    st.from_regex(
        re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] {1,9}[\w-]{1,9}\.[\w-]{1,9}\.[\w-]{1,9}", re.ASCII),
        fullmatch=True,
    )
)
def test_any_well_formed_token_is_read(value: str) -> None:
    assert bearer_token([value]) == value.rsplit(" ", maxsplit=1)[-1]

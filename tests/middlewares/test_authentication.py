"""Authentication: strict reading of the bearer token."""

import re

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from middlewares.authentication import MAX_TOKEN_BYTES, authentication, bearer_token
from middlewares.context import Principal
from middlewares.errors import ApiError, ErrorCode, error_handler
from tests.middlewares.support import Alone, outcome, send_raw

TOKEN = "eyJh-1.eyJp_2.c2ln3"
LONGEST = "a" * (MAX_TOKEN_BYTES - 4) + ".b.c"
SYNTAX = "Authorization must be: Bearer <JWT>, a compact JWS of three base64url segments"


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


@pytest.mark.parametrize("second", [f"Bearer {TOKEN}", ""])
def test_two_headers_are_an_invalid_request(second: str) -> None:
    with pytest.raises(ApiError, match="Send exactly one Authorization header") as caught:
        bearer_token([f"Bearer {TOKEN}", second])
    assert caught.value.code is ErrorCode.INVALID_REQUEST


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
    assert response.code == code
    assert reached == []

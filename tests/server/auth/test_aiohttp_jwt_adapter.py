"""aiohttp-jwt, made to hold: what it refuses, it refuses in our words and without a trace."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp_jwt
import aiohttp_jwt.middleware
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_aiohttp import AiohttpClient

from middlewares.api_errors import ApiError, ErrorCode
from server.auth.aiohttp_jwt_adapter import Decoder
from server.auth.claims import Claims
from server.auth.verification_key import VerificationKey
from tests.middlewares.support import NOW, told
from tests.middlewares.tokens import (
    RULES,
    SECRET,
    admit,
    claims,
    compact,
    key_pair,
    make_decoder,
    segment,
    signed_with,
)

ALGORITHMS = [
    *["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
    *["ES256", "ES384", "ES512", "EdDSA"],
]
OTHER_SECRET = SECRET[::-1]


def decoder(**checks: str) -> Decoder:
    return make_decoder("HS256", SECRET, **checks)


async def refusal(decode: Awaitable[Claims]) -> str:
    """Give the details of a refusal, which must be that of an invalid_token token."""
    with pytest.raises(ApiError) as caught:
        await decode
    assert caught.value.code == ErrorCode.AUTH_TOKEN_INVALID
    return caught.value.details


# Signatures


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_signed_with_the_key_gives_its_claims(algorithm: str) -> None:
    sign, verify = key_pair(algorithm)
    token = signed_with(algorithm, claims(), sign)
    assert await make_decoder(algorithm, verify)(token) == claims()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_changed_by_a_single_claim_gives_none(algorithm: str) -> None:
    sign, verify = key_pair(algorithm)
    head, _, signature = signed_with(algorithm, claims(), sign).split(".")
    forged = f"{head}.{segment(claims(id='pt_2'))}.{signature}"
    details = await refusal(make_decoder(algorithm, verify)(forged))
    assert details == "The token's signature does not verify"


async def test_a_token_signed_with_another_secret_gives_none() -> None:
    token = compact(claims(), secret=OTHER_SECRET)
    assert await refusal(decoder()(token)) == "The token's signature does not verify"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
async def test_a_decoder_takes_its_own_algorithm_only(algorithm: str) -> None:
    await refusal(decoder()(signed_with(algorithm, claims(), SECRET)))


async def test_a_public_key_is_never_taken_for_a_secret() -> None:
    _, public = key_pair("RS256")
    decode = make_decoder("RS256", public)
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        known = public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        await refusal(decode(compact(claims(), secret=known)))


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", "HS25", "hs256"])
async def test_an_unsigned_token_or_one_of_no_algorithm_gives_none(name: str) -> None:
    await refusal(decoder()(compact(claims(), {"alg": name})))
    await refusal(decoder()(f"{segment({'alg': name})}.{segment(claims())}."))


async def test_two_decoders_keep_their_keys_apart() -> None:
    ours, other = decoder(), make_decoder("HS256", OTHER_SECRET)
    assert await other(compact(claims(), secret=OTHER_SECRET)) == claims()
    assert await ours(compact(claims())) == claims()
    await refusal(other(compact(claims())))


# What a hostile token may hold

HOSTILE: Mapping[str, str] = {
    "a crit of a line break": compact(claims(), {"alg": "HS256", "crit": ["a\nb"]}),
    "a crit of a line break, unsigned": segment({"alg": "HS256", "crit": ["a\r\nb"]}) + ".e30.eA",
    "a crit that is no list": compact(claims(), {"alg": "HS256", "crit": "a\nb"}),
    "an empty crit": compact(claims(), {"alg": "HS256", "crit": []}),
    "a crit that the library knows": compact(claims(), {"alg": "HS256", "crit": ["exp"]}),
    "an unencoded payload": compact(claims(), {"alg": "HS256", "b64": False}),
    "an algorithm of a line break": compact(claims(), {"alg": "HS256\r\nX: 1"}),
    "an algorithm that is a list": compact(claims(), {"alg": ["HS256"]}),
    "an algorithm that is null": compact(claims(), {"alg": None}),
    "no algorithm": compact(claims(), {}),
    "a key id that is a number": compact(claims(), {"alg": "HS256", "kid": 7}),
    "a key id that is a list": compact(claims(), {"alg": "HS256", "kid": ["a\nb"]}),
    "a header that is a list": compact(claims(), ["HS256"]),
    "a header that is no JSON": compact(claims(), b'{"alg":'),
    "a header that is no text": compact(claims(), b"\xff\xfe\xfd"),
    "a header nested deeply": compact(claims(), b"[" * 4000),
    "a payload that is a list": compact([]),
    "a payload that is a number": compact(b"7"),
    "a payload that is null": compact(b"null"),
    "a payload that is no JSON": compact(b"{"),
    "a payload that is no text": compact(b"\xff\xfe\xfd"),
    "a payload nested deeply": compact(b'{"a":' * 900 + b"[" * 1000),
    "a payload nested deeply and well": compact(b"[" * 2500 + b"]" * 2500),
    "a number of 5,000 digits": compact(b'{"exp":' + b"9" * 5000 + b"}"),
    "an empty payload": f"{segment({'alg': 'HS256'})}..eA",
    "letters": "a.b.c",
    "dashes": "-.-.-",
    "padding that is none": "ab=.ab=.ab=",
    "two segments": "a.b",
    "five segments": "a.b.c.d.e",
    "nothing": "",
    "a dot": ".",
    "no base64url": "+/+/.+/+/.+/+/",
    "no ASCII": "\u00e4.\u00e4.\u00e4",
}


@pytest.mark.parametrize("token", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_token_is_refused_without_a_word_in_the_log(
    token: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    details = await refusal(decoder()(token))
    assert "\n" not in details
    assert told(caplog) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value",
    [
        *["null", "true", '"1"', '"soon"', '"4000000060"', "[]", "{}", "[4000000060]"],
        *["NaN", "Infinity", "-Infinity", "1e999", "1" + 400 * "0", "9" * 4300, "9" * 4301],
    ],
)
@pytest.mark.parametrize("also", ["{}", '{"iat": 1e12}', '{"sub": 7}', '{"aud": "x", "jti": 7}'])
async def test_an_odd_date_makes_a_token_invalid_whatever_else_is_odd_in_it(
    name: str, value: str, also: str
) -> None:
    rest = {**claims(), **json.loads(also)}
    rest.pop(name, None)
    payload = json.dumps(rest)[:-1] + f', "{name}": {value}}}'

    async def read() -> object:
        return admit(RULES, await decoder()(compact(payload.encode())))

    with pytest.raises(ApiError) as caught:
        await read()
    assert caught.value.code == ErrorCode.AUTH_TOKEN_INVALID


async def test_a_refusal_repeats_nothing_of_its_token() -> None:
    marked = claims(iss="marked", aud="marked", sub="marked", exp="marked", jti=["marked"])
    header = {"alg": "HS256", "typ": "marked", "kid": "marked", "crit": ["marked"]}
    checked = decoder(issuer="us", audience="us")
    for token in (
        compact(marked),
        compact(marked, secret=OTHER_SECRET),
        compact(marked, header),
        compact(marked | {"exp": NOW + 60}),
        compact(marked | {"exp": NOW + 60, "iss": "us"}),
    ):
        assert "marked" not in await refusal(checked(token))


# What aiohttp-jwt cannot be told to think over


@pytest.mark.parametrize(
    "odd",
    [
        {"exp": 1},
        {"exp": 1.5},
        {"exp": -1},
        {"nbf": NOW * 2},
        {"iat": NOW * 2},
        {"exp": 1, "iat": NOW * 2, "nbf": NOW * 3},
        {"exp": "1"},
        {"exp": True},
    ],
)
async def test_dates_are_left_to_the_rules_for_claims(odd: dict[str, Any]) -> None:
    assert await decoder()(compact(claims(**odd))) == claims(**odd)


@pytest.mark.parametrize(
    "odd",
    [
        {"sub": 7},
        {"sub": None},
        {"sub": ["x"]},
        {"jti": 7},
        {"jti": None},
        {"jti": "\ud800"},
        {"aud": "anybody"},
        {"aud": ["anybody", "else"]},
        {"aud": 7},
        {"aud": ""},
        {"iss": "anybody"},
        {"iss": 7},
        {"sub": 7, "jti": 7, "aud": {"a": 1}, "exp": 1},
    ],
)
async def test_claims_that_nobody_asks_about_may_be_anything(odd: dict[str, Any]) -> None:
    assert await decoder()(compact(claims(**odd))) == claims(**odd)


@pytest.mark.parametrize(
    ("odd", "details"),
    [
        ({"exp": 1}, "signature"),
        ({"sub": 7}, "signature"),
        ({"aud": "x"}, "signature"),
        ({"nbf": NOW * 2}, "signature"),
    ],
)
async def test_no_odd_claim_excuses_a_forged_signature(odd: dict[str, Any], details: str) -> None:
    assert details in await refusal(decoder()(compact(claims(**odd), secret=OTHER_SECRET)))


# Issuer and audience

ISSUER_REFUSED = "The token was issued by another issuer"
AUDIENCE_REFUSED = "The token is for another audience"
LACKING = "The token lacks a required claim (iss or aud)"


@pytest.mark.parametrize("odd", [{}, {"sub": 7}, {"exp": 1}, {"iat": NOW * 2}])
@pytest.mark.parametrize(
    ("issuer", "details"),
    [
        ("us", None),
        ("them", ISSUER_REFUSED),
        ("us ", ISSUER_REFUSED),
        ("u", ISSUER_REFUSED),
        ("", ISSUER_REFUSED),
        (7, ISSUER_REFUSED),
        (None, ISSUER_REFUSED),
        (["us"], ISSUER_REFUSED),
        (..., LACKING),
    ],
)
async def test_an_issuer_that_is_asked_for_must_be_the_one(
    issuer: object, details: str | None, odd: dict[str, Any]
) -> None:
    payload = claims(iss=issuer, **odd)
    result = decoder(issuer="us")(compact(payload))
    assert (await result == payload) if details is None else (await refusal(result) == details)


@pytest.mark.parametrize("odd", [{}, {"sub": 7}, {"exp": 1}, {"iat": NOW * 2}])
@pytest.mark.parametrize(
    ("audience", "details"),
    [
        ("us", None),
        (["us"], None),
        (["them", "us"], None),
        ("them", AUDIENCE_REFUSED),
        (["them"], AUDIENCE_REFUSED),
        ("us them", AUDIENCE_REFUSED),
        (7, AUDIENCE_REFUSED),
        ({"us": 1}, AUDIENCE_REFUSED),
        (["us", 7], AUDIENCE_REFUSED),
        ([["us"]], AUDIENCE_REFUSED),
        ("", LACKING),
        ([], LACKING),
        (None, LACKING),
        (..., LACKING),
    ],
)
async def test_an_audience_that_is_asked_for_must_be_among_the_tokens(
    audience: object, details: str | None, odd: dict[str, Any]
) -> None:
    payload = claims(aud=audience, **odd)
    result = decoder(audience="us")(compact(payload))
    assert (await result == payload) if details is None else (await refusal(result) == details)


async def test_a_token_of_another_issuer_is_not_merely_expired() -> None:
    token = compact(claims(iss="them", exp=1))
    assert await refusal(decoder(issuer="us")(token)) == ISSUER_REFUSED


# A host application that uses aiohttp-jwt itself


@pytest.fixture
async def host(aiohttp_client: AiohttpClient) -> Callable[[str], Awaitable[int]]:
    """Serve a host that guards its own route; decoders are made before and after its own."""
    make_decoder("HS256", SECRET)

    @aiohttp_jwt.login_required  # type: ignore[untyped-decorator]  # aiohttp-jwt's
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=request["of_the_host"]["id"])

    guard = aiohttp_jwt.JWTMiddleware(
        OTHER_SECRET.decode(), request_property="of_the_host", algorithms=["HS256"]
    )
    make_decoder("HS256", SECRET)
    app = web.Application(middlewares=[guard])
    app.router.add_get("/", hello)
    client = await aiohttp_client(app)

    async def ask(token: str) -> int:
        async with client.get("/", headers={"Authorization": f"Bearer {token}"}) as answer:
            return answer.status

    return ask


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the global of aiohttp-jwt as it was, since here a host sets it."""
    current = aiohttp_jwt.middleware._request_property
    monkeypatch.setattr(aiohttp_jwt.middleware, "_request_property", current)


@pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")
async def test_a_host_still_lets_its_own_users_in(host: Callable[[str], Awaitable[int]]) -> None:
    assert await host(compact({"id": "user"}, secret=OTHER_SECRET)) == 200


async def test_a_host_still_logs_what_it_refuses_while_we_do_not(
    host: Callable[[str], Awaitable[int]], caplog: pytest.LogCaptureFixture
) -> None:
    bad = compact({"id": "user"}, secret=b"neither the host's nor ours, but long enough")
    assert await host(bad) == 401
    await refusal(decoder()(bad))
    [record] = told(caplog)
    assert record.name == "aiohttp_jwt.middleware"
    assert record.exc_info


def test_a_line_of_the_host_without_a_trace_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("aiohttp_jwt.middleware").warning("of the host")
    assert [record.getMessage() for record in told(caplog)] == ["of the host"]


@pytest.mark.parametrize("before", [..., "of_the_host"])
def test_making_a_decoder_leaves_the_librarys_global_alone(
    before: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp_jwt.middleware, "_request_property", before)
    decoder()
    assert aiohttp_jwt.middleware._request_property is before


async def test_many_at_once_each_get_their_own_claims() -> None:
    decode = decoder()
    tokens = [compact(claims(id=f"pt_{number}")) for number in range(100)]
    found = await asyncio.gather(*(decode(token) for token in tokens))
    assert [each["id"] for each in found] == [f"pt_{number}" for number in range(100)]


# Any token at all

any_text = st.text(st.characters(exclude_categories=()), max_size=20)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["alg", "crit", "kid", "b64", "typ", "exp", "nbf", "iat", "aud", "jti"])
any_part = st.binary() | any_json.map(lambda value: json.dumps(value).encode())
any_object = st.dictionaries(names | any_text, any_json, max_size=6)


@settings(max_examples=200)
@given(
    header=any_part | any_object | any_object.map(lambda header: {**header, "alg": "HS256"}),
    payload=any_part | any_object,
    checks=st.sampled_from([{}, {"issuer": "us"}, {"audience": "us"}]),
)
async def test_any_token_gives_claims_or_is_invalid(
    header: bytes | dict[str, Any], payload: bytes | dict[str, Any], checks: dict[str, str]
) -> None:
    try:
        found = await decoder(**checks)(compact(payload, header))
    except ApiError as error:
        code = error.code
    else:
        assert isinstance(found, dict)
        code = ErrorCode.AUTH_TOKEN_INVALID
    assert code == ErrorCode.AUTH_TOKEN_INVALID


@given(any_text)
async def test_any_text_that_is_no_token_is_invalid(text: str) -> None:
    await refusal(decoder()(text))


@pytest.mark.parametrize("fault", [MemoryError, ValueError, RecursionError])
async def test_a_fault_that_nobody_foresaw_lets_nobody_in_and_is_told_to_the_log(
    fault: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    decode = decoder()
    monkeypatch.setattr(VerificationKey, "verify", fail)
    with pytest.raises(ApiError, match="AUTH_TOKEN_INVALID"):
        await decode(compact({"id": "pt_1"}))
    assert "an unexpected error" in caplog.text

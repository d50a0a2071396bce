"""Verification of a JWS: signature, issuer and audience, compared with PyJWT over any bytes."""

import json
from typing import Any

import jwt
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from middlewares.errors import ApiError, ErrorCode
from server.auth.claims import Claims
from server.auth.tokens import VerificationKey, make_verify
from tests.middlewares.support import NOW
from tests.server.auth.tokens import SECRET, claims, compact, key_pair, segment, signed_with

KEY = VerificationKey("HS256", SECRET)
OTHER_SECRET = SECRET[::-1]
ALGORITHMS = [
    *["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
    *["ES256", "ES384", "ES512", "EdDSA", "Ed25519"],
]
SIGNATURE = "The token's signature does not verify"
ALGORITHM = "The token's algorithm is not the algorithm of its key"
MALFORMED = "The token is malformed"
ISSUER = "The token was issued by another issuer"
AUDIENCE = "The token is for another audience"
REQUIRED = "The token lacks a required claim (iss or aud)"


def details_of(token: str, *keys: VerificationKey, **checks: Any) -> str | None:
    """Return the details of the rejection, which is AUTH_TOKEN_INVALID; None for valid tokens."""
    try:
        make_verify(*(keys or [KEY]), **checks)(token.encode())
    except ApiError as error:
        assert error.code is ErrorCode.AUTH_TOKEN_INVALID  # noqa: PT017  both results are checked
        return error.details
    return None


# --- signature and algorithm --------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_signature_of_each_algorithm_is_verified(algorithm: str) -> None:
    signer, verifier = key_pair(algorithm)
    token = signed_with(algorithm, claims(), signer)
    key = VerificationKey(algorithm, verifier)
    assert make_verify(key)(token.encode()) == claims()
    header, _, signature = token.split(".")
    forged = f"{header}.{segment(claims(id='pt_2'))}.{signature}"
    assert details_of(forged, key) == SIGNATURE


@pytest.mark.parametrize("algorithm", [each for each in ALGORITHMS if each != "HS256"])
def test_key_is_bound_to_its_algorithm(algorithm: str) -> None:
    signer, verifier = key_pair(algorithm)
    token = signed_with(algorithm, claims(), signer)
    assert details_of(token) == ALGORITHM
    assert details_of(compact(claims()), VerificationKey(algorithm, verifier)) == ALGORITHM


def test_each_of_several_keys_verifies() -> None:
    other = VerificationKey("HS256", OTHER_SECRET)
    signer, verifier = key_pair("ES256")
    keys = (VerificationKey("ES256", verifier), other, KEY)
    for token in (
        compact(claims()),
        compact(claims(), secret=OTHER_SECRET),
        signed_with("ES256", claims(), signer),
    ):
        assert details_of(token, *keys) is None
    assert details_of(compact(claims(), secret=b"a third secret" * 4), *keys) == SIGNATURE


# --- malformed tokens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"7", id="number"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"claims"', id="string"),
        pytest.param(b"{", id="not JSON"),
        pytest.param(b"{}{}", id="two values"),
        pytest.param(b"\xff\xfe\xfd", id="not UTF-8"),
        pytest.param(b'{"a":' * 900 + b"[" * 1000, id="deep and cut short"),
        pytest.param(b"[" * 2500 + b"]" * 2500, id="deep"),
        pytest.param(b'{"exp":' + b"9" * 5000 + b"}", id="number of 5,000 digits"),
    ],
)
def test_malformed_payload_is_rejected(payload: bytes) -> None:
    assert details_of(compact(payload)) == MALFORMED


@pytest.mark.parametrize(
    "token",
    [
        *["", ".", "..", "a.b", "a.b.c", "-.-.-", "ab=.ab=.ab=", "+/+/.+/+/.+/+/"],
        *["\u00e4.\u00e4.\u00e4", "a.b.c.d.e"],
        f"{segment({'alg': 'HS256'})}..eA=",
        f"{segment({'alg': 'HS256'})}.e.eA",
    ],
)
def test_malformed_token_is_rejected(token: str) -> None:
    with pytest.raises(ApiError) as caught:
        make_verify(KEY)(token.encode())
    assert caught.value.code is ErrorCode.AUTH_TOKEN_INVALID
    assert caught.value.details in {MALFORMED, "The token's header is not JSON"}
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_segments_that_are_not_base64url_are_malformed() -> None:
    header, payload, signature = compact(claims()).split(".")
    for token in (
        f"{header}.{payload}=.{signature}",
        f"{header}.{payload}.{signature}=",
        f"{header}.{payload}.{payload}.{signature}",
    ):
        assert details_of(token) == MALFORMED


def test_rejection_repeats_nothing_of_the_token() -> None:
    marked = claims(iss="marked", aud="marked", sub="marked", jti=["marked"])
    for token in (
        compact(marked),
        compact(marked, secret=OTHER_SECRET),
        compact(marked, {"alg": "HS256", "typ": "marked", "kid": "marked", "crit": ["marked"]}),
        compact(marked, {"alg": "marked"}),
        compact(marked | {"iss": "us"}),
    ):
        details = details_of(token, issuers=["us"], audiences=["us"])
        assert details is not None
        assert "marked" not in details


# --- issuer and audience ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issuer", "details"),
    [
        ("us", None),
        ("them", ISSUER),
        ("us ", ISSUER),
        ("u", ISSUER),
        ("US", ISSUER),
        ("", ISSUER),
        (7, ISSUER),
        (None, ISSUER),
        (["us"], ISSUER),
        (..., REQUIRED),
    ],
)
def test_issuer_must_be_equal(issuer: object, details: str | None) -> None:
    token = compact(claims(iss=issuer, sub=7, exp=1))
    assert details_of(token, issuers=["us"]) == details
    assert details_of(token) is None


@pytest.mark.parametrize(
    ("audience", "details"),
    [
        ("us", None),
        ("you", None),
        (["us"], None),
        (["them", "you"], None),
        (["us", "us"], None),
        ("them", AUDIENCE),
        (["them"], AUDIENCE),
        ("us you", AUDIENCE),
        ("us,you", AUDIENCE),
        ("US", AUDIENCE),
        (7, AUDIENCE),
        (True, AUDIENCE),
        ({"us": 1}, AUDIENCE),
        (["us", 7], AUDIENCE),
        (["us", None], AUDIENCE),
        ([["us"]], AUDIENCE),
        ("", REQUIRED),
        ([], REQUIRED),
        (None, REQUIRED),
        (..., REQUIRED),
    ],
)
def test_audience_must_contain_one_of_those_accepted(audience: object, details: str | None) -> None:
    token = compact(claims(aud=audience, sub=7, exp=1))
    assert details_of(token, audiences=("us", "you")) == details
    assert details_of(token) is None


def test_both_issuer_and_audience_are_checked() -> None:
    checks: dict[str, Any] = {"issuers": ["us"], "audiences": ["us"]}
    assert details_of(compact(claims(iss="us", aud="us")), **checks) is None
    assert details_of(compact(claims(iss="us", aud="them")), **checks) == AUDIENCE
    assert details_of(compact(claims(iss="them", aud="us")), **checks) == ISSUER


@pytest.mark.parametrize(
    "odd",
    [
        *[{"exp": 1}, {"exp": -1}, {"exp": "1"}, {"exp": True}, {"nbf": NOW * 2}, {"iat": NOW * 2}],
        *[{"sub": 7}, {"sub": ["x"]}, {"jti": 7}, {"jti": None}, {"jti": "\ud800"}],
        *[{"aud": 7}, {"iss": 7}, {"sub": 7, "jti": 7, "aud": {"a": 1}, "exp": 1}],
    ],
)
def test_other_claims_are_not_checked_here(odd: dict[str, Any]) -> None:
    assert make_verify(KEY)(compact(claims(**odd)).encode()) == claims(**odd)
    assert details_of(compact(claims(**odd), secret=OTHER_SECRET)) == SIGNATURE


# --- any token, compared with PyJWT -------------------------------------------------------------

UNCHECKED: Any = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "sub", "jti")}
Result = Claims | None


def by_us(token: str, **checks: str) -> Result:
    audiences = [checks["audience"]] if "audience" in checks else []
    try:
        issuers = [checks["issuer"]] if "issuer" in checks else []
        verify = make_verify(KEY, issuers=issuers, audiences=audiences)
        return verify(token.encode())
    except ApiError:
        return None


def by_pyjwt(token: str, **checks: Any) -> Result:
    options = UNCHECKED | {"verify_aud": "audience" in checks}
    try:
        return jwt.decode(token, SECRET, algorithms=["HS256"], options=options, **checks)
    except jwt.InvalidTokenError:
        return None


def assert_same_result(token: str, **checks: str) -> None:
    ours, theirs = by_us(token, **checks), by_pyjwt(token, **checks)
    event("rejected" if ours is None else "accepted")
    assert repr(ours) == repr(theirs)  # NaN is not equal to itself


words = st.sampled_from(["", "us", "them", "\ud800", "pt_1"]) | st.text(max_size=6)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(st.sampled_from(["iss", "aud", "id", "exp", "sub"]) | words, values)
any_checks = st.sampled_from(
    [{}, {"issuer": "us"}, {"audience": "us"}, {"issuer": "us", "audience": "us"}]
)


@given(objects, any_checks)
@example({"iss": "us", "aud": ["them", "us"]}, {"issuer": "us", "audience": "us"})
@example({"iss": ["us"], "aud": [["us"]]}, {"issuer": "us"})
@example({"id": 10**400, "exp": float("inf")}, {})
def test_any_claims(payload: dict[str, Any], checks: dict[str, str]) -> None:
    assert_same_result(compact(payload), **checks)


@given(objects | st.just({}), st.text("AQgw_-=+ .\n", max_size=3), st.integers(0, 400))
def test_any_insertion(payload: dict[str, Any], inserted: str, position: int) -> None:
    token = compact(payload)
    position %= len(token)
    changed = token[:position] + inserted + token[position:]
    if by_pyjwt(changed) is not None and changed.endswith("="):
        return  # PyJWT accepts padding, which RFC 7515 excludes; bearer_token rejects it earlier
    assert_same_result(changed)


@given(st.binary(max_size=60))
@example(json.dumps({"id": 1}).encode("utf-16"))
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":1,"a":2}')
@example(b'{"a":\xff}')
def test_any_payload_bytes(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        assert by_us(compact(payload)) is None  # PyJWT guesses UTF-16 and UTF-32
    else:
        if not payload.startswith(b"\xef\xbb\xbf") and b"\0" not in payload:  # the same guess
            assert_same_result(compact(payload))


@given(st.dictionaries(st.sampled_from(["kid", "crit", "b64", "typ", "zip", "alg"]), values))
def test_any_header_is_read_at_least_as_strictly(more: dict[str, Any]) -> None:
    token = compact(claims(), {"alg": "HS256", **more})
    assert by_us(token) in (None, by_pyjwt(token))

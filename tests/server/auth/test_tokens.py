"""Reading and verifying a compact JWS: encoding, header, signature, issuer and audience."""

import json
import string
import warnings
from typing import Any

import jwt
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from middlewares.errors import ApiError, ErrorCode
from server.auth.claims import Claims
from server.auth.tokens import (
    Header,
    VerificationKey,
    base64url_decode,
    check_type,
    make_verify,
    read_header,
)
from tests.middlewares.support import NOW
from tests.server.auth.tokens import SECRET, claims, compact, key_pair, segment, signed_with

ALPHABET = string.ascii_letters + string.digits + "-_"
KEY = VerificationKey("HS256", SECRET)
OTHER_SECRET = SECRET[::-1]
ALGORITHMS = ["HS256", "HS512", "RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
NOT_JSON = "The token's header is not JSON"
NOT_AN_OBJECT = "The token's header is not a JSON object"
EXTENSION = "The token's header requires an extension (crit or b64)"
NO_ALG = "The token's header has no alg"
BAD_KID = "The token's header has a kid that is not a string"
SIGNATURE = "The token's signature does not verify"
ALGORITHM = "The token's algorithm is not the algorithm of its key"
MALFORMED = "The token is malformed"
ISSUER = "The token was issued by another issuer"
AUDIENCE = "The token is for another audience"
REQUIRED = "The token lacks a required claim (iss or aud)"
REASONS = {
    **{each: {"format"} for each in (NOT_JSON, NOT_AN_OBJECT, EXTENSION, BAD_KID, MALFORMED)},
    NO_ALG: {"algorithm"},
    ALGORITHM: {"algorithm"},
    SIGNATURE: {"signature"},
    ISSUER: {"issuer"},
    AUDIENCE: {"audience"},
    REQUIRED: {"issuer", "audience"},
}


# --- base64url ----------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_encoded_bytes_are_decoded(data: bytes) -> None:
    assert base64url_decode(segment(data).encode()) == data


@given(st.text(ALPHABET, max_size=60))
def test_only_the_canonical_encoding_is_decoded(text: str) -> None:
    try:
        data = base64url_decode(text.encode())
    except ValueError:
        return
    assert segment(data) == text


def test_padding_and_bytes_outside_the_alphabet_are_rejected() -> None:
    others = [bytes([each]) for each in set(range(256)) - set(ALPHABET.encode())]
    inserted = [
        text[:position] + other + text[position:]
        for text in (b"AAAA", b"AAA")
        for position in range(len(text) + 1)
        for other in others
    ]
    for text in (b"A", b"AAAAA", b"AB", b"AAB", b"AA=", b"AA==", b"=", b"====", *inserted):
        with pytest.raises(ValueError, match=r"."):
            base64url_decode(text)


# --- header -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "header"),
    [
        ({"alg": "HS256"}, Header("HS256", None)),
        ({"alg": "RS256", "kid": "", "typ": "JWT", "x": [1]}, Header("RS256", "", "jwt")),
        ({"alg": "", "kid": "a/b"}, Header("", "a/b")),
        ({"alg": "ES256", "typ": 7}, Header("ES256", None)),
        ({"alg": "ES256", "typ": "Application/X+JWT"}, Header("ES256", None, "x+jwt")),
        (b'{"alg": "HS256", "x": 1e999}', Header("HS256", None)),
    ],
)
def test_header_has_algorithm_and_key_id(value: Any, header: Header) -> None:
    assert read_header(segment(value)) == header


REJECTED: dict[str, list[Any]] = {
    NOT_JSON: [
        *[b"", b"{", b'{"alg":', b"\xff\xfe\xfd", b'\xef\xbb\xbf{"alg":"HS256"}'],
        *['{"alg":"HS256"}'.encode("utf-16"), b"[" * 100_000],
    ],
    NOT_AN_OBJECT: [b"[]", b'"alg"', b"null"],
    NO_ALG: [{}, {"alg": None}, {"alg": 7}, {"alg": 1.5}, {"alg": ["HS256"]}],
    BAD_KID: [{"alg": "HS256", "kid": each} for each in (None, 1, 1.5, ["a\nb"])],
    EXTENSION: [
        *[{"alg": "HS256", "crit": each} for each in (["exp"], ["a\r\nb"], [], None)],
        *[{"alg": "HS256", "b64": each} for each in (False, True)],
    ],
}


@pytest.mark.parametrize("details", REJECTED)
def test_header_is_rejected(details: str) -> None:
    texts = ["e", "a", "e30e3", "e30=", "\u00e4"] if details == NOT_JSON else []
    for text in [*map(segment, REJECTED[details]), *texts]:
        with pytest.raises(ApiError) as caught:
            read_header(text)
        assert (caught.value.code, caught.value.details) == (ErrorCode.AUTH_TOKEN_INVALID, details)
        assert caught.value.reason in REASONS[details]
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("typ", [None, "jwt", "at+jwt", "x+jwt", "not-a-patient-proof+jwt"])
def test_any_other_type_is_that_of_an_access_token(typ: str | None) -> None:
    check_type(Header("ES256", None, typ))


@pytest.mark.parametrize(
    "name", ["logout", "secevent", "dpop", "entity-statement", "patient-proof", "id"]
)
@pytest.mark.parametrize("form", ["{}+jwt", "{}+JWT", "application/{}+jwt"])
def test_types_that_are_not_access_tokens_are_rejected(name: str, form: str) -> None:
    header = read_header(segment({"alg": "ES256", "typ": form.format(name)}))
    with pytest.raises(ApiError, match=f"its typ is {name}") as caught:
        check_type(header)
    assert caught.value.reason == "type"


@pytest.mark.parametrize("required", ["at+jwt", "application/AT+jwt"])
def test_required_type_is_the_only_one(required: str) -> None:
    check_type(Header("ES256", None, "at+jwt"), required)
    for typ in (None, "jwt", "id+jwt", "x/at+jwt"):
        with pytest.raises(ApiError, match="not JWT_REQUIRED_TYPE"):
            check_type(Header("ES256", None, typ), required)


# --- keys, signature and algorithm --------------------------------------------------------------


def details_of(token: str, *keys: VerificationKey, **checks: Any) -> str | None:
    """Return the details of the rejection, which is AUTH_TOKEN_INVALID; None for valid tokens."""
    try:
        make_verify(*(keys or [KEY]), **checks)(token.encode())
    except ApiError as error:
        assert error.code is ErrorCode.AUTH_TOKEN_INVALID  # noqa: PT017  both results are checked
        assert error.reason in REASONS[str(error.details)]  # noqa: PT017  the same
        assert error.__suppress_context__ or error.__context__ is None  # noqa: PT017  the same
        return error.details
    return None


def test_key_is_not_shown_and_must_fit_its_algorithm() -> None:
    assert repr(KEY) == str(KEY) == "<HS256 key>"
    for algorithm, key in (("RS256", "no key"), ("ES256", SECRET)):
        with pytest.raises((jwt.InvalidKeyError, ValueError)):
            VerificationKey(algorithm, key)


def test_verification_with_a_minimal_secret_does_not_warn() -> None:
    secret = b"exactly-32-bytes-and-none-beyond"
    with warnings.catch_warnings(action="ignore"):  # signing warns
        token = jwt.encode(claims(), secret, algorithm="HS512")
    assert details_of(token, VerificationKey("HS512", secret)) is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_key_verifies_its_algorithm_only(algorithm: str) -> None:
    signer, verifier = key_pair(algorithm)
    token = signed_with(algorithm, claims(), signer)
    key = VerificationKey(algorithm, verifier)
    assert make_verify(key)(token.encode()) == claims()
    header, _, signature = token.split(".")
    forged = f"{header}.{segment(claims(id='pt_2'))}.{signature}"
    assert details_of(forged, key) == SIGNATURE
    if algorithm != "HS256":
        assert details_of(token) == ALGORITHM
        assert details_of(compact(claims()), key) == ALGORITHM


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
        *[b"", b"[]", b"7", b"null", b'"claims"', b"{", b"{}{}", b"\xff\xfe\xfd"],
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
    assert details_of(token) in {MALFORMED, NOT_JSON}


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


ISSUERS: dict[str | None, list[Any]] = {
    None: ["us"],
    ISSUER: ["them", "us ", "u", "US", "", 7, None, ["us"]],
    REQUIRED: [...],
}
AUDIENCES: dict[str | None, list[Any]] = {
    None: ["us", "you", ["us"], ["them", "you"], ["us", "us"]],
    AUDIENCE: [
        *["them", ["them"], "us you", "us,you", "US", 7, True, {"us": 1}],
        *[["us", 7], ["us", None], [["us"]]],
    ],
    REQUIRED: ["", [], None, ...],
}


@pytest.mark.parametrize("details", ISSUERS)
def test_issuer_must_be_equal(details: str | None) -> None:
    for issuer in ISSUERS[details]:
        token = compact(claims(iss=issuer, sub=7, exp=1))
        assert details_of(token, issuers=["us"]) == details, issuer
        assert details_of(token) is None


@pytest.mark.parametrize("details", AUDIENCES)
def test_audience_must_contain_one_of_those_accepted(details: str | None) -> None:
    for audience in AUDIENCES[details]:
        token = compact(claims(aud=audience, sub=7, exp=1))
        assert details_of(token, audiences=("us", "you")) == details, audience
        assert details_of(token) is None


def test_both_issuer_and_audience_are_checked() -> None:
    checks: dict[str, Any] = {"issuers": ["us"], "audiences": ["us"]}
    assert details_of(compact(claims(iss="us", aud="us")), **checks) is None
    assert details_of(compact(claims(iss="us", aud="them")), **checks) == AUDIENCE
    assert details_of(compact(claims(iss="them", aud="us")), **checks) == ISSUER


def test_other_claims_are_not_checked_here() -> None:
    dates: list[dict[str, Any]] = [{"exp": 1}, {"exp": "1"}, {"nbf": NOW * 2}, {"iat": NOW * 2}]
    for odd in [*dates, {"sub": 7, "jti": "\ud800"}, {"jti": 7, "aud": {"a": 1}, "iss": 7}]:
        assert make_verify(KEY)(compact(claims(**odd)).encode()) == claims(**odd)
        assert details_of(compact(claims(**odd), secret=OTHER_SECRET)) == SIGNATURE


# --- any claims, compared with PyJWT ------------------------------------------------------------

UNCHECKED: Any = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "sub", "jti")}
Result = Claims | None


def by_us(token: str, **checks: str) -> Result:
    audiences = [checks["audience"]] if "audience" in checks else []
    issuers = [checks["issuer"]] if "issuer" in checks else []
    try:
        return make_verify(KEY, issuers=issuers, audiences=audiences)(token.encode())
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
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
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

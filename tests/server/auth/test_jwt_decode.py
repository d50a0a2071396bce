"""What stands in for PyJWT's reading of a token decides as PyJWT does, over any bytes signed."""

import json
from typing import Any

import jwt
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from middlewares.api_errors import ApiError
from server.auth.claims import Claims
from server.auth.jwt_decode import make_decode
from server.auth.verification_key import VerificationKey
from tests.middlewares.tokens import SECRET, claims, compact, key_pair, signed_with

KEY = VerificationKey("HS256", SECRET)
LEFT_TO_THE_RULES: Any = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "sub", "jti")}
Decided = Claims | None


def by_us(token: str, **checks: str) -> Decided:
    try:
        audiences = [checks["audience"]] if "audience" in checks else []
        decode = make_decode(KEY, issuer=checks.get("issuer", ""), audiences=audiences)
        return decode(token.encode())
    except ApiError:
        return None


def by_pyjwt(token: str, **checks: Any) -> Decided:
    options = LEFT_TO_THE_RULES | {"verify_aud": "audience" in checks}
    try:
        return jwt.decode(token, SECRET, algorithms=["HS256"], options=options, **checks)
    except jwt.InvalidTokenError:
        return None


def agree(token: str, **checks: str) -> None:
    ours, theirs = by_us(token, **checks), by_pyjwt(token, **checks)
    event("refused" if ours is None else "passes")
    assert repr(ours) == repr(theirs)  # NaN is not equal to itself


words = st.sampled_from(["", "us", "them", "\ud800", "pt_1"]) | st.text(max_size=6)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(st.sampled_from(["iss", "aud", "id", "exp", "sub"]) | words, values)
checks_made = st.sampled_from(
    [{}, {"issuer": "us"}, {"audience": "us"}, {"issuer": "us", "audience": "us"}]
)


@given(objects, checks_made)
@example({"iss": "us", "aud": ["them", "us"]}, {"issuer": "us", "audience": "us"})
@example({"iss": ["us"], "aud": [["us"]]}, {"issuer": "us"})
@example({"id": 10**400, "exp": float("inf")}, {})
def test_over_any_claims(payload: dict[str, Any], checks: dict[str, str]) -> None:
    agree(compact(payload), **checks)


@given(objects | st.just({}), st.text("AQgw_-=+ .\n", max_size=3), st.integers(0, 400))
def test_over_tokens_with_something_put_in(payload: dict[str, Any], more: str, at: int) -> None:
    token = compact(payload)
    changed = token[: at % len(token)] + more + token[at % len(token) :]
    if by_pyjwt(changed) is not None and changed.endswith("="):
        return  # PyJWT takes padding, which RFC 7515 has none of; nobody gets that far here
    agree(changed)


@given(st.binary(max_size=60))
@example(json.dumps({"id": 1}).encode("utf-16"))
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":1,"a":2}')
@example(b'{"a":\xff}')
def test_over_any_bytes_in_place_of_claims(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        assert by_us(compact(payload)) is None  # PyJWT guesses at UTF-16 and UTF-32
    else:
        if not payload.startswith(b"\xef\xbb\xbf") and b"\0" not in payload:  # or at a mark
            agree(compact(payload))


@given(st.dictionaries(st.sampled_from(["kid", "crit", "b64", "typ", "zip", "alg"]), values))
def test_over_any_header_it_is_at_least_as_strict(more: dict[str, Any]) -> None:
    token = compact(claims(), {"alg": "HS256", **more})
    assert by_us(token) in (None, by_pyjwt(token))


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES512", "EdDSA", "HS512"])
def test_a_token_of_each_family_is_taken_for_its_own_key_alone(algorithm: str) -> None:
    sign, verify = key_pair(algorithm)
    token = signed_with(algorithm, claims(), sign).encode()
    assert make_decode(VerificationKey(algorithm, verify))(token) == claims()
    with pytest.raises(ApiError, match="The token's algorithm is not the algorithm of its key"):
        make_decode(KEY)(token)

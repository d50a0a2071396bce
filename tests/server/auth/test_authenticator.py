"""The header of a token, and the way from a token to the caller."""

import json
from base64 import urlsafe_b64encode
from contextlib import suppress
from time import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.api_errors import ApiError
from server.auth.authenticator import make_authenticator
from server.auth.jws import Header, read_header
from server.auth.keys.factory import make_static_provider
from server.components import Components
from tests.support import claims, make_settings, sign

NOW = 1_800_000_000


def segment(value: object) -> str:
    """Write a header as a token's first segment."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize(
    ("value", "header"),
    [
        ({"alg": "HS256"}, Header("HS256", None)),
        ({"alg": "RS256", "kid": "", "typ": "JWT", "x": [1]}, Header("RS256", "")),
        ({"alg": "", "kid": "a/b"}, Header("", "a/b")),
    ],
)
def test_a_header_tells_algorithm_and_key(value: object, header: Header) -> None:
    assert read_header(segment(value)) == header


@pytest.mark.parametrize(
    ("value", "details"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ([], "not a JSON object"),
        ("alg", "not a JSON object"),
        (None, "not a JSON object"),
        ({}, "has no alg"),
        ({"alg": None}, "has no alg"),
        ({"alg": ["HS256"]}, "has no alg"),
        ({"alg": "HS256", "kid": None}, "kid"),
        ({"alg": "HS256", "kid": 1}, "kid"),
        ({"alg": "HS256", "kid": 1.5}, "kid"),
        ({"alg": 1.5}, "has no alg"),
        ({"alg": "HS256", "kid": {}}, "kid"),
        ({"alg": "HS256", "crit": ["exp"]}, "crit"),
        ({"alg": "HS256", "crit": None}, "crit"),
        ({"alg": "HS256", "crit": ["a\nb"]}, "crit"),
    ],
)
def test_a_header_that_cannot_be_trusted_is_refused(value: object, details: str) -> None:
    with pytest.raises(ApiError, match=details) as caught:
        read_header(segment(value))
    assert caught.value.code == "AUTH_TOKEN_INVALID"


@pytest.mark.parametrize("text", ["e", "a", "e30e3"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ApiError):
        read_header(text)


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", max_size=60))
def test_no_segment_does_anything_but_be_read_or_refused(text: str) -> None:
    with suppress(ApiError):
        assert isinstance(read_header(text), Header)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "crit", "typ"]), st.text() | st.none()))
def test_no_header_does_anything_but_be_read_or_refused(value: dict[str, object]) -> None:
    with suppress(ApiError):
        assert isinstance(read_header(segment(value)), Header)


async def test_a_token_proves_a_caller_until_it_runs_out() -> None:
    settings = make_settings(JWT_LEEWAY_SECONDS="5")
    now = time()
    expires = int(now) + 60
    verify = make_authenticator(
        make_static_provider(settings), Components(settings).rules, lambda: now
    )
    token = sign(claims(exp=expires, jti="j"))
    assert (await verify(token)).token_id == "j"
    now = expires + 4
    assert (await verify(token)).patient_id == "pt_1"
    now = expires + 5
    with pytest.raises(ApiError) as caught:
        await verify(token)
    assert caught.value.code == "AUTH_TOKEN_EXPIRED"


async def test_a_token_of_another_algorithm_is_refused() -> None:
    settings = make_settings()
    verify = make_authenticator(
        make_static_provider(settings), Components(settings).rules, lambda: NOW
    )
    with pytest.raises(ApiError) as caught:
        await verify(sign(algorithm="HS512"))
    assert caught.value.code == "AUTH_TOKEN_INVALID"


async def test_what_was_refused_is_not_taken_for_what_was_good() -> None:
    settings = make_settings()
    verify = make_authenticator(make_static_provider(settings), Components(settings).rules, time)
    good = sign()
    forged = f"{good.rpartition('.')[0]}.{'A' * 43}"
    for _ in range(2):
        with pytest.raises(ApiError):
            await verify(forged)
        assert (await verify(good)).patient_id == "pt_1"


@pytest.mark.parametrize("segment", [0, 1, 2])
async def test_a_good_token_spelt_otherwise_is_refused(segment: int) -> None:
    settings = make_settings()
    verify = make_authenticator(make_static_provider(settings), Components(settings).rules, time)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 'kid' and 'pad' make each segment one whose last character has bits to spare.
    for pad in ("", "x", "xx"):
        parts = sign(claims(pad=pad), kid=pad).split(".")
        if len(parts[segment]) % 4 == 0:
            continue
        last = alphabet.index(parts[segment][-1])
        parts[segment] = parts[segment][:-1] + alphabet[last ^ 1]
        with pytest.raises(ApiError) as caught:
            await verify(".".join(parts))
        assert caught.value.code == "AUTH_TOKEN_INVALID"

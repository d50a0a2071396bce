"""The header of a token, and the way from a token to the caller."""

import json
from base64 import urlsafe_b64encode
from contextlib import suppress
from time import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.catalogue import ApiError
from middlewares.claims import Claims
from middlewares.decoder import Decoder
from server import tokens
from server.keys import StaticKeys, static_keys
from server.parts import Parts
from server.tokens import Header, make_verifier, read_header
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
        ({"alg": "HS256", "kid": None}, Header("HS256", None)),
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
        ({}, "names no algorithm"),
        ({"alg": None}, "names no algorithm"),
        ({"alg": ["HS256"]}, "names no algorithm"),
        ({"alg": "HS256", "kid": 1}, "kid"),
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
    verify = make_verifier(static_keys(settings), Parts(settings).rules, lambda: now)
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
    verify = make_verifier(static_keys(settings), Parts(settings).rules, lambda: NOW)
    with pytest.raises(ApiError) as caught:
        await verify(sign(algorithm="HS512"))
    assert caught.value.code == "AUTH_TOKEN_INVALID"


class CountingKeys:
    """Keys that can be exchanged, and count what they are used for."""

    state = "ready"

    def __init__(self, secret: str) -> None:
        self.count = 0
        self.exchange(secret)

    def exchange(self, secret: str) -> None:
        """Use another secret from now on."""
        self._keys: StaticKeys = static_keys(make_settings(JWT_SECRET=secret))
        self._decoders: dict[str, Decoder] = {}

    async def decoder(self, algorithm: str, key_id: str | None) -> Decoder:
        """Give the decoder, always the same one while the secret is."""
        inner = await self._keys.decoder(algorithm, key_id)

        async def decode(token: str) -> Claims:
            self.count += 1
            return await inner(token)

        return self._decoders.setdefault(algorithm, decode)


OLD, NEW = "o" * 64, "n" * 64


async def test_a_token_is_verified_once_but_never_after_its_key_is_gone() -> None:
    keys = CountingKeys(OLD)
    verify = make_verifier(keys, Parts(make_settings()).rules, time)
    token = sign(key=OLD)
    assert await verify(token) == await verify(token)
    assert keys.count == 1
    keys.exchange(NEW)
    for _ in range(2):
        with pytest.raises(ApiError) as caught:
            await verify(token)
        assert caught.value.code == "AUTH_TOKEN_INVALID"
    assert keys.count == 3


async def test_what_was_refused_is_not_remembered_as_good() -> None:
    keys = CountingKeys(OLD)
    verify = make_verifier(keys, Parts(make_settings()).rules, time)
    good = sign(key=OLD)
    forged = good[:-4] + ("AAAA" if not good.endswith("AAAA") else "BBBB")
    for token, is_good in ((forged, False), (good, True), (forged, False), (good, True)):
        if is_good:
            assert (await verify(token)).patient_id == "pt_1"
        else:
            with pytest.raises(ApiError):
                await verify(token)


async def test_so_many_tokens_are_remembered_and_the_oldest_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "MAX_REMEMBERED", 2)
    keys = CountingKeys(OLD)
    verify = make_verifier(keys, Parts(make_settings()).rules, time)
    one, two, three = (sign(claims(id=patient), key=OLD) for patient in ("1", "2", "3"))
    for token in (one, two, three, three, two):
        await verify(token)
    assert keys.count == 3
    assert (await verify(one)).patient_id == "1"
    assert keys.count == 4

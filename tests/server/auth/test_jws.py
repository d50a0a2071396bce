"""Base64url as encoders write it, and nothing else that could be taken for it."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.auth.jws import base64url_decode
from tests.middlewares.tokens import segment

ALPHABET = string.ascii_letters + string.digits + "-_"


@given(st.binary(max_size=300))
def test_what_was_encoded_comes_back(data: bytes) -> None:
    assert base64url_decode(segment(data).encode()) == data


@given(st.text(ALPHABET, max_size=60))
def test_of_all_spellings_only_the_encoders_own_is_read(text: str) -> None:
    try:
        data = base64url_decode(text.encode())
    except ValueError:
        return
    assert segment(data) == text


@pytest.mark.parametrize(
    "text",
    ["A", "AAAAA", "AB", "AAB", "AA=", "AA==", "=", "====", "A A", "AA\n", " AA", "AA.", "AA!"],
)
def test_what_no_encoder_writes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        base64url_decode(text.encode())


@pytest.mark.parametrize("at", range(5))
def test_no_octet_outside_the_alphabet_is_passed_over(at: int) -> None:
    for octet in set(range(256)) - set(ALPHABET.encode()):
        for text in (bytearray(b"AAAA"), bytearray(b"AAA")):
            text.insert(at, octet)
            with pytest.raises(ValueError, match=r"."):
                base64url_decode(bytes(text))

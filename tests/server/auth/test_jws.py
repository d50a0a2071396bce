"""Reading of a compact JWS: canonical base64url, and the header."""

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.errors import ApiError, ErrorCode
from server.auth.tokens import Header, base64url_decode, check_type, read_header
from tests.server.auth.tokens import segment

ALPHABET = string.ascii_letters + string.digits + "-_"
NOT_JSON = "The token's header is not JSON"
NOT_AN_OBJECT = "The token's header is not a JSON object"
EXTENSION = "The token's header requires an extension (crit or b64)"
NO_ALG = "The token's header has no alg"
BAD_KID = "The token's header has a kid that is not a string"


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


@pytest.mark.parametrize(
    "text",
    ["A", "AAAAA", "AB", "AAB", "AA=", "AA==", "=", "====", "A A", "AA\n", " AA", "AA.", "AA!"],
)
def test_other_encodings_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not canonical base64url$|^Invalid base64|padding"):
        base64url_decode(text.encode())


@pytest.mark.parametrize("position", range(5))
def test_bytes_outside_the_alphabet_are_rejected(position: int) -> None:
    for octet in set(range(256)) - set(ALPHABET.encode()):
        for text in (bytearray(b"AAAA"), bytearray(b"AAA")):
            text.insert(position, octet)
            with pytest.raises(ValueError, match=r"."):
                base64url_decode(bytes(text))


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


@pytest.mark.parametrize(
    ("value", "details"),
    [
        (b"", NOT_JSON),
        (b"{", NOT_JSON),
        (b'{"alg":', NOT_JSON),
        (b"\xff\xfe\xfd", NOT_JSON),
        ('{"alg":"HS256"}'.encode("utf-16"), NOT_JSON),
        (b'\xef\xbb\xbf{"alg":"HS256"}', NOT_JSON),
        (b"[" * 100_000, NOT_JSON),
        (b"[]", NOT_AN_OBJECT),
        (b'"alg"', NOT_AN_OBJECT),
        (b"null", NOT_AN_OBJECT),
        ({}, NO_ALG),
        ({"alg": None}, NO_ALG),
        ({"alg": 7}, NO_ALG),
        ({"alg": 1.5}, NO_ALG),
        ({"alg": ["HS256"]}, NO_ALG),
        ({"alg": "HS256", "kid": None}, BAD_KID),
        ({"alg": "HS256", "kid": 1}, BAD_KID),
        ({"alg": "HS256", "kid": 1.5}, BAD_KID),
        ({"alg": "HS256", "kid": ["a\nb"]}, BAD_KID),
        ({"alg": "HS256", "crit": ["exp"]}, EXTENSION),
        ({"alg": "HS256", "crit": ["a\r\nb"]}, EXTENSION),
        ({"alg": "HS256", "crit": []}, EXTENSION),
        ({"alg": "HS256", "crit": None}, EXTENSION),
        ({"alg": "HS256", "b64": False}, EXTENSION),
        ({"alg": "HS256", "b64": True}, EXTENSION),
    ],
)
def test_header_is_rejected(value: Any, details: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_header(segment(value))
    assert (caught.value.code, caught.value.details) == (ErrorCode.AUTH_TOKEN_INVALID, details)


@pytest.mark.parametrize("text", ["e", "a", "e30e3", "e30=", "\u00e4"])
def test_header_that_is_not_base64url_is_rejected(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_header(text)
    assert caught.value.details == NOT_JSON
    assert caught.value.__suppress_context__


@given(
    st.text(ALPHABET, max_size=60)
    | st.dictionaries(
        st.sampled_from(["alg", "kid", "crit", "typ"]), st.text() | st.none() | st.floats()
    ).map(lambda value: segment(json.dumps(value).encode()))
)
def test_any_header_is_read_or_rejected(text: str) -> None:
    try:
        header = read_header(text)
    except ApiError as error:
        assert error.code is ErrorCode.AUTH_TOKEN_INVALID  # noqa: PT017  either result is fine
    else:
        assert isinstance(header, Header)


OTHER_TYPES = ("logout", "secevent", "dpop", "entity-statement", "patient-proof", "id")


@pytest.mark.parametrize("typ", [None, "jwt", "at+jwt", "x+jwt", "not-a-patient-proof+jwt"])
def test_any_other_type_is_that_of_an_access_token(typ: str | None) -> None:
    check_type(Header("ES256", None, typ))


@pytest.mark.parametrize("name", OTHER_TYPES)
@pytest.mark.parametrize("form", ["{}+jwt", "{}+JWT", "application/{}+jwt"])
def test_types_that_are_not_access_tokens_are_rejected(name: str, form: str) -> None:
    header = read_header(segment(json.dumps({"alg": "ES256", "typ": form.format(name)}).encode()))
    with pytest.raises(ApiError, match=f"its typ is {name}") as caught:
        check_type(header)
    assert caught.value.reason == "type"


@pytest.mark.parametrize("required", ["at+jwt", "application/AT+jwt"])
def test_required_type_is_the_only_one(required: str) -> None:
    check_type(Header("ES256", None, "at+jwt"), required)
    for typ in (None, "jwt", "id+jwt", "x/at+jwt"):
        with pytest.raises(ApiError, match="not JWT_REQUIRED_TYPE"):
            check_type(Header("ES256", None, typ), required)

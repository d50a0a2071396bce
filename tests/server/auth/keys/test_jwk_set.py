"""Which keys of a JWKS document are used, and which key a token is checked with."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from server.auth.keys.jwk_set import JwkSet, NoUsableKeyError
from server.config.public_keys import PUBLIC_ALGORITHMS
from tests.issuer import Key, key, make_key, rsa_key
from tests.server.auth.keys.conftest import make_decoders

MINE = key("mine", "ES256")
MEMBERS = ["kty", "kid", "alg", "use", "key_ops", "crv", "x", "y", "n", "e", "d", "p", "k"]


def read(*jwks: object, allowed: Iterable[str] = PUBLIC_ALGORITHMS) -> JwkSet:
    return JwkSet({"keys": list(jwks)}, allowed=frozenset(allowed), make_decoders=make_decoders)


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"])
async def test_a_key_checks_its_algorithm_and_no_other(algorithm: str) -> None:
    mine = key("mine", algorithm)
    key_set = read(mine.jwk())
    decode = key_set.find(algorithm, "mine")
    assert decode is not None
    assert (await decode(mine.token()))["id"] == "pt_1"
    assert all(key_set.find(other, "mine") is None for other in PUBLIC_ALGORITHMS - {algorithm})


def test_a_key_that_names_no_algorithm_serves_all_that_its_type_allows() -> None:
    key_set = read(key("mine", "RS256").jwk(alg=...), allowed={"RS256", "PS512", "ES256"})
    assert [bool(key_set.find(each, "mine")) for each in ("RS256", "PS512", "ES256")] == [
        True,
        True,
        False,
    ]


def test_an_algorithm_that_is_not_allowed_is_never_used() -> None:
    key_set = read(MINE.jwk(), key("other", "RS256").jwk(), allowed={"ES256"})
    assert key_set.find("RS256", "other") is None


@pytest.mark.parametrize(
    "jwk",
    [
        pytest.param({"kty": "oct", "k": "c2VjcmV0" * 8, "alg": "HS256"}, id="symmetric"),
        pytest.param({"kty": "oct", "k": "c2VjcmV0" * 8}, id="symmetric, of no algorithm"),
        pytest.param(MINE.jwk(use="enc"), id="for encryption"),
        pytest.param(MINE.jwk(use=["sig"]), id="of a use that is no word"),
        pytest.param(MINE.jwk(key_ops=["sign"]), id="for signing only"),
        pytest.param(MINE.jwk(key_ops="verify"), id="of operations that are no list"),
        pytest.param(MINE.jwk(alg="RSA-OAEP"), id="of an encryption algorithm"),
        pytest.param(MINE.jwk(alg="RS256"), id="of another type's algorithm"),
        pytest.param(MINE.jwk(alg="none"), id="of the algorithm none"),
        pytest.param(MINE.jwk(alg=7), id="of an algorithm that is a number"),
        pytest.param(MINE.jwk(kid=7), id="of an id that is a number"),
        pytest.param(MINE.jwk(x="AA"), id="no point of its curve"),
        pytest.param(MINE.jwk(crv="secp256k1", alg=...), id="of another curve"),
        pytest.param(MINE.jwk(kty=...), id="of no type"),
        pytest.param(Key("RS256", rsa_key(1, 1024), "odd").jwk(), id="weak"),
        pytest.param(ECAlgorithm.to_jwk(MINE.private, as_dict=True), id="private"),
        pytest.param({}, id="empty"),
        pytest.param("key", id="a string"),
        pytest.param(None, id="null"),
    ],
)
def test_what_is_no_use_is_left_out_and_spoils_nothing(jwk: Any) -> None:
    odd = {**jwk, "kid": jwk.get("kid", "odd")} if isinstance(jwk, dict) else jwk
    with pytest.raises(NoUsableKeyError):
        read(odd)
    assert read(odd, key("good").jwk()).find("ES256", "good") is not None


@pytest.mark.parametrize("document", [None, 7, "keys", [], {}, {"keys": None}, {"keys": {}}])
def test_document_that_is_not_a_jwks_is_rejected(document: object) -> None:
    with pytest.raises(ValueError, match="not a JWKS") as caught:
        JwkSet(document, allowed=PUBLIC_ALGORITHMS, make_decoders=make_decoders)
    assert not isinstance(caught.value, NoUsableKeyError)


@given(
    st.dictionaries(
        st.sampled_from(MEMBERS),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner),
            max_leaves=3,
        ),
    ),
    st.sampled_from([{}, MINE.jwk(), key("rsa", "RS256").jwk(), key("ed", "EdDSA").jwk()]),
)
def test_no_key_however_odd_keeps_the_others_from_serving(
    odd: dict[str, Any], base: dict[str, Any]
) -> None:
    assert read({**base, **odd}, key("good").jwk()).find("ES256", "good") is not None


def test_a_token_without_a_key_id_is_checked_with_the_only_key_that_fits() -> None:
    key_set = read(MINE.jwk(), key("rsa", "RS256").jwk())
    assert key_set.find("ES256", None) is key_set.find("ES256", "mine")
    assert key_set.find("EdDSA", None) is None


def test_a_token_without_a_key_id_is_not_tried_on_several_keys() -> None:
    assert read(MINE.jwk(), key("second").jwk()).find("ES256", None) is None


async def test_a_key_without_an_id_serves_tokens_without_one() -> None:
    nameless = key(None)
    key_set = read(nameless.jwk())
    decode = key_set.find("ES256", None)
    assert decode is not None
    assert (await decode(nameless.token()))["id"] == "pt_1"
    assert key_set.find("ES256", "any") is None


def test_keys_of_two_types_may_share_an_id() -> None:
    key_set = read(MINE.jwk(), key("mine", "RS256").jwk())
    assert key_set.find("ES256", "mine") is not None
    assert key_set.find("RS256", "mine") is not None


async def test_of_two_keys_with_one_id_the_first_counts() -> None:
    key_set = read(MINE.jwk(), Key("ES256", make_key("ES256"), "mine").jwk())
    decode = key_set.find("ES256", "mine")
    assert decode is not None
    assert (await decode(MINE.token()))["id"] == "pt_1"


@pytest.mark.parametrize(
    ("algorithm", "key_id", "covered"),
    [
        ("ES256", "mine", True),
        ("RS256", "mine", True),  # the key is known, and is for another algorithm
        ("ES256", "new", False),
        ("ES256", "", False),
        ("ES256", None, True),
        ("RS256", None, False),
    ],
)
def test_newer_keys_are_worth_fetching_only_for_a_key_that_is_not_here(
    algorithm: str, key_id: str | None, *, covered: bool
) -> None:
    assert read(MINE.jwk()).resolves(algorithm, key_id) is covered

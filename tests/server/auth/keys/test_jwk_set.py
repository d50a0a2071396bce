"""The usable keys of a JWKS document, and the key that a token is verified with."""

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from middlewares.errors import ApiError
from rig.issuer import Key, key, make_key
from rig.rsa_keys import rsa_key
from rig.service import sign
from server.auth.aiohttp_jwt_adapter import verify_token
from server.auth.jwk_set import JwkSet, NoUsableKeyError, explain_unused
from server.auth.tokens import base64url_decode
from server.config.keys import ED25519_ALGORITHMS, PUBLIC_ALGORITHMS
from tests import pems
from tests.server.auth.keys.conftest import verify_with

MINE = key("mine", "ES256")
MEMBERS = ["kty", "kid", "alg", "use", "key_ops", "crv", "x", "y", "n", "e", "d", "p", "k"]


def read(*jwks: object, allowed: Iterable[str] = PUBLIC_ALGORITHMS) -> JwkSet:
    return JwkSet({"keys": list(jwks)}, allowed=frozenset(allowed), make_verify=verify_with)


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"])
def test_key_verifies_its_algorithm_only(algorithm: str) -> None:
    mine = key("mine", algorithm)
    key_set = read(mine.jwk())
    verify = key_set.find(algorithm, "mine")
    same = ED25519_ALGORITHMS if algorithm == "EdDSA" else {algorithm}
    assert verify is not None
    assert verify_token(mine.token(), verify)["id"] == "pt_1"
    assert all(key_set.find(other, "mine") is None for other in PUBLIC_ALGORITHMS - same)


def test_key_without_alg_verifies_all_allowed_algorithms_of_its_type() -> None:
    key_set = read(key("mine", "RS256").jwk(alg=...), allowed={"RS256", "PS512", "ES256"})
    assert [bool(key_set.find(each, "mine")) for each in ("RS256", "PS512", "ES256")] == [
        True,
        True,
        False,
    ]


def test_use_and_key_ops_are_optional() -> None:
    for key_ops in (["verify"], ["sign", "verify"], ...):
        assert read(MINE.jwk(use=..., key_ops=key_ops)).find("ES256", "mine") is not None


def test_key_of_an_algorithm_that_is_not_allowed_is_ignored() -> None:
    key_set = read(MINE.jwk(), key("other", "RS256").jwk(), allowed={"ES256"})
    assert key_set.find("RS256", "other") is None


@pytest.mark.parametrize(
    "jwk",
    [
        pytest.param({"kty": "oct", "k": "c2VjcmV0" * 8, "alg": "HS256"}, id="symmetric"),
        pytest.param({"kty": "oct", "k": "c2VjcmV0" * 8}, id="symmetric without alg"),
        pytest.param(MINE.jwk(use="enc"), id="for encryption"),
        pytest.param(MINE.jwk(use=["sig"]), id="use is a list"),
        pytest.param(MINE.jwk(key_ops=["sign"]), id="key_ops without verify"),
        pytest.param(MINE.jwk(key_ops="verify"), id="key_ops is a string"),
        pytest.param(MINE.jwk(alg="RSA-OAEP"), id="encryption algorithm"),
        pytest.param(MINE.jwk(alg="RS256"), id="algorithm of another type"),
        pytest.param(MINE.jwk(alg="none"), id="alg is none"),
        pytest.param(MINE.jwk(alg=7), id="alg is a number"),
        pytest.param(MINE.jwk(alg=["ES256"]), id="alg is a list"),
        pytest.param(MINE.jwk(kid=7), id="kid is a number"),
        pytest.param(MINE.jwk(x="AA"), id="not a point of the curve"),
        pytest.param(MINE.jwk(crv="secp256k1", alg=...), id="unsupported curve"),
        pytest.param(MINE.jwk(kty=...), id="without kty"),
        pytest.param(Key("RS256", rsa_key(1, 1024), "odd").jwk(), id="weak"),
        pytest.param(ECAlgorithm.to_jwk(MINE.private, as_dict=True), id="private"),
        pytest.param({}, id="empty"),
        pytest.param("key", id="a string"),
        pytest.param(None, id="null"),
    ],
)
def test_unusable_key_is_ignored(jwk: Any) -> None:
    odd = {**jwk, "kid": jwk.get("kid", "odd")} if isinstance(jwk, dict) else jwk
    with pytest.raises(NoUsableKeyError):
        read(odd)
    assert read(odd, key("good").jwk()).find("ES256", "good") is not None


@pytest.mark.parametrize("document", [None, 7, "keys", [], {}, {"keys": None}, {"keys": {}}])
def test_document_that_is_not_a_jwks_is_rejected(document: object) -> None:
    with pytest.raises(ValueError, match=r"^not a JWKS$") as caught:
        JwkSet(document, allowed=PUBLIC_ALGORITHMS, make_verify=verify_with)
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
def test_any_odd_key_does_not_affect_the_others(odd: dict[str, Any], base: dict[str, Any]) -> None:
    assert read({**base, **odd}, key("good").jwk()).find("ES256", "good") is not None


def test_token_without_kid_uses_the_only_key_that_fits() -> None:
    key_set = read(MINE.jwk(), key("rsa", "RS256").jwk())
    verify = key_set.find("ES256", None)
    assert verify is not None
    assert verify_token(MINE.token(), verify)["id"] == "pt_1"
    assert key_set.find("EdDSA", None) is None


def test_token_without_kid_is_not_tried_with_several_keys() -> None:
    assert read(MINE.jwk(), key("second").jwk()).find("ES256", None) is None


def test_key_without_kid_verifies_tokens_without_kid() -> None:
    nameless = key(None)
    key_set = read(nameless.jwk())
    verify = key_set.find("ES256", None)
    assert verify is not None
    assert verify_token(nameless.token(), verify)["id"] == "pt_1"
    assert key_set.find("ES256", "any") is None


def test_keys_of_two_types_can_share_a_kid() -> None:
    key_set = read(MINE.jwk(), key("mine", "RS256").jwk())
    assert key_set.find("ES256", "mine") is not None
    assert key_set.find("RS256", "mine") is not None


def test_first_of_two_keys_with_one_kid_is_used() -> None:
    key_set = read(MINE.jwk(), Key("ES256", make_key("ES256"), "mine").jwk())
    verify = key_set.find("ES256", "mine")
    assert verify is not None
    assert verify_token(MINE.token(), verify)["id"] == "pt_1"


@pytest.mark.parametrize(
    ("algorithm", "key_id", "resolved"),
    [
        ("ES256", "mine", True),
        ("RS256", "mine", True),  # the key is known, for another algorithm
        ("ES256", "new", False),
        ("ES256", "", False),
        ("ES256", None, True),
        ("RS256", None, False),
    ],
)
def test_only_an_unknown_key_needs_a_refetch(
    algorithm: str, key_id: str | None, *, resolved: bool
) -> None:
    assert read(MINE.jwk()).resolves(algorithm, key_id) is resolved


# --- keys as providers publish them -------------------------------------------------------------


def test_null_members_are_absent() -> None:
    assert read(MINE.jwk(use=None, key_ops=None, alg=None, x5c=None)).find("ES256", "mine")


@pytest.mark.parametrize("allowed", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519", ...])
def test_ed25519_key_verifies_both_of_its_names(alg: Any, allowed: str) -> None:
    key_set = read(key("mine", "Ed25519").jwk(alg=alg), allowed={allowed})
    assert all(key_set.find(each, "mine") for each in ("EdDSA", "Ed25519"))


def test_ed448_key_verifies_eddsa_only() -> None:
    jwk = Key("EdDSA", pems.ED448, "mine").jwk(alg=...)
    key_set = read(jwk, allowed={"EdDSA", "Ed25519"})
    assert key_set.find("EdDSA", "mine") is not None
    assert key_set.find("Ed25519", "mine") is None
    for odd, allowed in [(jwk, "Ed25519"), ({**jwk, "alg": "Ed25519"}, "EdDSA")]:
        with pytest.raises(NoUsableKeyError):
            read(odd, allowed={allowed})


def test_coordinates_without_leading_zeros_are_padded() -> None:
    while True:
        trimmed = key("mine", "ES256")
        x = base64url_decode(trimmed.jwk()["x"].encode())
        if x[0] == 0:
            break
    short = urlsafe_b64encode(x.lstrip(b"\0")).decode().rstrip("=")
    verify = read(trimmed.jwk(x=short)).find("ES256", "mine")
    assert verify is not None
    assert verify_token(trimmed.token(), verify)["id"] == "pt_1"


def test_key_that_is_listed_twice_counts_once() -> None:
    assert read(MINE.jwk(), MINE.jwk(kid="again"), MINE.jwk()).find("ES256", None)


def test_four_keys_of_one_id_are_tried_and_the_fifth_is_not() -> None:
    keys = [key("mine") for _ in range(5)]
    key_set = read(*(each.jwk() for each in keys))
    verify = key_set.find("ES256", "mine")
    assert verify is not None
    for each in keys[:4]:
        assert verify_token(each.token(), verify)["id"] == "pt_1"
    with pytest.raises(ApiError, match="signature"):
        verify_token(keys[4].token(), verify)
    with pytest.raises(ApiError, match="malformed"):
        verify_token(sign(b"[]", keys[0].private, "ES256", kid="mine"), verify)
    assert list(map(str, key_set.unused)) == ['"mine" (more than 4 keys have this kid)']
    assert key_set.size == 4


def test_unused_keys_are_told_with_the_reason() -> None:
    weak = Key("RS256", rsa_key(1, 1024), "weak").jwk()
    jwks = [MINE.jwk(kid="enc", use="enc"), key("rsa", "RS256").jwk(), weak, MINE.jwk(kid=7)]
    key_set = read(MINE.jwk(), *jwks, {"kty": "x"}, allowed={"ES256"})
    assert key_set.size == 1
    assert list(map(str, key_set.unused)) == [
        '"enc" (it is not for signatures)',
        '"rsa" (no algorithm of it is one of JWT_ALGORITHMS)',
        '"weak" (it is private, symmetric, too weak or of another curve)',
        "7 (its kid is not a string)",
        "null (it is malformed or of an unknown kind)",
    ]


def test_a_token_is_told_why_its_key_is_not_used() -> None:
    unused = read(MINE.jwk(), MINE.jwk(kid="a", use="enc"), MINE.jwk(kid="b", use="enc")).unused
    assert "not for signatures" in explain_unused(unused, "b", "unknown")
    assert explain_unused(unused, "c", "unknown") == "unknown"

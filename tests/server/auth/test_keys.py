"""The keys that verify tokens: those of the settings, and those of a JWKS document."""

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Any

import joserfc.jwk
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from middlewares.errors import ApiError
from rig.issuer import Key, key, make_key
from rig.rsa_keys import rsa_key
from rig.service import SECRET, claims, make_settings, sign
from server.auth.aiohttp_jwt_adapter import verify_token
from server.auth.keys import (
    JwkSet,
    NoUsableKeyError,
    explain_unused,
    make_static_provider,
    verify_maker,
)
from server.auth.tokens import VerificationKey, base64url_decode
from server.config import Settings
from server.config.keys import ED25519_ALGORITHMS, PUBLIC_ALGORITHMS
from tests import pems

PREVIOUS = "the-previous-secret-that-is-64-bytes-long-or-more-for-HS512-as-well"
OTHER = "another-secret-that-is-64-bytes-long-or-more-for-HS512-as-well-....."
ES256_KEYS = [make_key("ES256") for _ in range(4)]
EIGHT_KEYS: list[tuple[str, Any]] = [
    *(("ES256", key) for key in ES256_KEYS),
    ("RS256", pems.RSA),
    ("PS256", rsa_key(1)),
    ("ES384", pems.P384),
    ("EdDSA", pems.ED25519),
]
SIGNERS: list[tuple[str, Any]] = [
    *((f"{kind}{bits}", pems.RSA) for kind in ("RS", "PS") for bits in (256, 384, 512)),
    ("ES256", pems.P256),
    ("ES384", pems.P384),
    ("ES512", pems.P521),
    ("EdDSA", pems.ED25519),
    ("EdDSA", pems.ED448),
]


def eight_public_keys() -> Settings:
    blocks = "".join(pems.public(key) for _, key in EIGHT_KEYS)
    algorithms = "RS256,PS256,ES256,ES384,EdDSA"
    return make_settings(JWT_SECRET="", JWT_PUBLIC_KEY=blocks, JWT_ALGORITHMS=algorithms)


async def verifies(settings: Settings, token: str, algorithm: str) -> bool:
    """Return whether a key of the settings verifies a token, whatever its `kid`."""
    keys = make_static_provider(settings)
    results = set()
    for key_id in (None, "any key id"):
        try:
            verify = await keys.find(algorithm, key_id)
            results.add(verify_token(token, verify)["id"] == "pt_1")
        except ApiError:
            results.add(False)
    (result,) = results
    return result


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_secret_verifies_its_algorithms_only(algorithm: str) -> None:
    settings = make_settings(JWT_ALGORITHMS=algorithm)
    for other in ("HS256", "HS384", "HS512"):
        assert await verifies(settings, sign(algorithm=other), other) is (other == algorithm)
    for other in ("RS256", "none", ""):
        assert not await verifies(settings, sign(algorithm=algorithm), other)


@pytest.mark.parametrize("algorithm", ["HS256", "HS512"])
@pytest.mark.parametrize(
    ("previous", "secret", "expected"),
    [
        (PREVIOUS, SECRET, True),
        (PREVIOUS, PREVIOUS, True),
        (PREVIOUS, OTHER, False),
        ("", PREVIOUS, False),
    ],
)
async def test_previous_secret_verifies_beside_the_secret(
    algorithm: str, previous: str, secret: str, *, expected: bool
) -> None:
    settings = make_settings(JWT_SECRET_PREVIOUS=previous, JWT_ALGORITHMS="HS256,HS512")
    token = sign(key=secret, algorithm=algorithm)
    assert await verifies(settings, token, algorithm) is expected


@pytest.mark.parametrize(("algorithm", "key"), SIGNERS)
async def test_public_key_verifies_each_algorithm_of_its_type(algorithm: str, key: Any) -> None:
    pem = pems.public(key)
    settings = make_settings(JWT_SECRET="", JWT_PUBLIC_KEY=pem, JWT_ALGORITHMS=algorithm)
    assert await verifies(settings, sign(key=key, algorithm=algorithm), algorithm)
    assert not await verifies(settings, sign(key=SECRET), "HS256")


@pytest.mark.parametrize(
    ("key", "chosen", "accepted"),
    [
        (pems.ED25519, "EdDSA", [True, True]),
        (pems.ED25519, "Ed25519", [True, True]),
        (pems.ED448, "EdDSA", [True, False]),
    ],
)
async def test_both_names_of_ed25519_are_one_algorithm(
    key: Any, chosen: str, accepted: list[bool]
) -> None:
    settings = make_settings(JWT_SECRET="", JWT_PUBLIC_KEY=pems.public(key), JWT_ALGORITHMS=chosen)
    for algorithm, expected in zip(("EdDSA", "Ed25519"), accepted, strict=True):
        token = sign(key=key, algorithm=algorithm)
        assert await verifies(settings, token, algorithm) is expected
    forged = sign(key=make_key("Ed25519"), algorithm="Ed25519")
    assert not await verifies(settings, forged, "Ed25519")


@pytest.mark.parametrize(("algorithm", "key"), EIGHT_KEYS)
async def test_each_of_eight_public_keys_verifies(algorithm: str, key: Any) -> None:
    assert await verifies(eight_public_keys(), sign(key=key, algorithm=algorithm), algorithm)


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        pytest.param("ES256", make_key("ES256"), id="not configured"),
        pytest.param("ES512", pems.P521, id="algorithm not allowed"),
        pytest.param("PS512", pems.RSA, id="algorithm of a configured key, not allowed"),
        pytest.param("HS256", SECRET, id="symmetric"),
    ],
)
async def test_token_of_none_of_eight_public_keys_is_rejected(algorithm: str, key: Any) -> None:
    assert not await verifies(eight_public_keys(), sign(key=key, algorithm=algorithm), algorithm)


def tried_keys(monkeypatch: pytest.MonkeyPatch) -> list[VerificationKey]:
    """Return a list of the keys that are tried from now on."""
    tried: list[VerificationKey] = []
    really = VerificationKey.verify

    def record(key: VerificationKey, *parts: bytes) -> bool:
        tried.append(key)
        return really(key, *parts)

    monkeypatch.setattr(VerificationKey, "verify", record)
    return tried


@pytest.mark.parametrize("signer", [*ES256_KEYS, pems.RSA, rsa_key(1), pems.ED25519])
async def test_key_is_tried_first_by_its_thumbprint(
    monkeypatch: pytest.MonkeyPatch, signer: Any
) -> None:
    algorithm = "RS256" if isinstance(signer, RSAPrivateKey) else "ES256"
    algorithm = "EdDSA" if signer is pems.ED25519 else algorithm
    thumbprint = joserfc.jwk.import_key(Key(algorithm, signer, None).jwk()).thumbprint()
    tried = tried_keys(monkeypatch)
    verify = await make_static_provider(eight_public_keys()).find(algorithm, thumbprint)
    assert verify_token(sign(key=signer, algorithm=algorithm), verify)["id"] == "pt_1"
    assert len(tried) == 1
    other = next(key for name, key in EIGHT_KEYS if name == algorithm)
    assert verify_token(sign(key=other, algorithm=algorithm), verify)["id"] == "pt_1"


@pytest.mark.parametrize(("algorithm", "attempts"), [("ES256", 4), ("RS256", 2), ("EdDSA", 1)])
async def test_forged_token_costs_one_verification_for_each_fitting_key(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, attempts: int
) -> None:
    tried = tried_keys(monkeypatch)
    verify = await make_static_provider(eight_public_keys()).find(algorithm, None)
    forged = sign(key=make_key(algorithm), algorithm=algorithm)
    with pytest.raises(ApiError, match="signature does not verify"):
        verify_token(forged, verify)
    assert len(tried) == len(set(tried)) == attempts


async def test_algorithm_without_a_fitting_key_is_rejected() -> None:
    settings = make_settings(JWT_SECRET="", JWT_PUBLIC_KEY=pems.public(pems.P256))
    assert settings.jwt_algorithms == ("RS256", "ES256")
    keys = make_static_provider(settings)
    with pytest.raises(ApiError, match="The token's algorithm is not accepted here"):
        await keys.find("RS256", None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"iss": "us", "aud": "voice"}, True),
        ({"iss": "us", "aud": ["other", "calls"]}, True),
        ({"iss": "us", "aud": "voice,calls"}, False),
        ({"iss": "us"}, False),
        ({"aud": "voice"}, False),
        ({"iss": "them", "aud": "voice"}, False),
    ],
)
async def test_issuer_and_audiences_are_checked(changes: dict[str, Any], *, expected: bool) -> None:
    settings = make_settings(JWT_ISSUER="us", JWT_AUDIENCE="voice, calls")
    assert await verifies(settings, sign(claims(**changes)), "HS256") is expected


# --- keys of a JWKS document --------------------------------------------------------------------

MINE = key("mine", "ES256")
MEMBERS = ["kty", "kid", "alg", "use", "key_ops", "crv", "x", "y", "n", "e", "d", "p", "k"]


def read(*jwks: object, allowed: Iterable[str] = PUBLIC_ALGORITHMS) -> JwkSet:
    make_verify = verify_maker(make_settings())
    return JwkSet({"keys": list(jwks)}, allowed=frozenset(allowed), make_verify=make_verify)


def accepts(key_set: JwkSet, signer: Key, **headers: Any) -> bool:
    """Return whether the set has what verifies a token of this key."""
    verify = key_set.find(signer.algorithm, headers.get("kid", signer.kid))
    return verify is not None and verify_token(signer.token(**headers), verify)["id"] == "pt_1"


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"])
def test_key_verifies_its_algorithm_only(algorithm: str) -> None:
    mine = key("mine", algorithm)
    key_set = read(mine.jwk())
    assert accepts(key_set, mine)
    same = ED25519_ALGORITHMS if algorithm == "EdDSA" else {algorithm}
    assert all(key_set.find(other, "mine") is None for other in PUBLIC_ALGORITHMS - same)


@pytest.mark.parametrize(
    ("change", "allowed", "found"),
    [
        ({"alg": ...}, {"RS256", "PS512", "ES256"}, {"RS256", "PS512"}),
        ({"alg": None}, {"RS256", "PS512", "ES256"}, {"RS256", "PS512"}),
        ({"use": ..., "key_ops": ...}, {"RS256"}, {"RS256"}),
        ({"use": None, "key_ops": None, "x5c": None}, {"RS256"}, {"RS256"}),
        ({"key_ops": ["verify"]}, {"RS256"}, {"RS256"}),
        ({"key_ops": ["sign", "verify"]}, {"RS256"}, {"RS256"}),
    ],
)
def test_members_of_a_key_are_optional(
    change: dict[str, Any], allowed: set[str], found: set[str]
) -> None:
    key_set = read(key("mine", "RS256").jwk(**change), allowed=allowed)
    assert {each for each in PUBLIC_ALGORITHMS if key_set.find(each, "mine")} == found


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
        JwkSet(document, allowed=PUBLIC_ALGORITHMS, make_verify=verify_maker(make_settings()))
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
    nameless = key(None)
    key_set = read(nameless.jwk(), key("rsa", "RS256").jwk())
    assert accepts(key_set, nameless)
    assert key_set.find("EdDSA", None) is None
    assert key_set.find("ES256", "any") is None
    assert read(MINE.jwk()).find("ES256", None) is not None
    assert read(MINE.jwk(), MINE.jwk(kid="again"), MINE.jwk()).find("ES256", None) is not None
    two = read(MINE.jwk(), key("second").jwk())
    assert two.find("ES256", None) is None
    assert two.explain(None) == "The token has no kid, and not exactly one key fits its algorithm"


def test_keys_of_two_types_can_share_a_kid() -> None:
    rsa = key("mine", "RS256")
    key_set = read(MINE.jwk(), rsa.jwk())
    assert accepts(key_set, MINE)
    assert accepts(key_set, rsa)


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
    assert accepts(read(trimmed.jwk(x=short)), trimmed)


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

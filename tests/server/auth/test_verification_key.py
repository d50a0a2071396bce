"""A verification key: prepared once, for one algorithm."""

import warnings

import jwt
import pytest
from jwt.algorithms import get_default_algorithms

from server.auth.tokens import VerificationKey
from tests.server.auth.tokens import SECRET, compact, key_pair

ALGORITHMS = sorted(set(get_default_algorithms()) - {"none", "ES256K", "ES521"})


def parts(token: str) -> tuple[bytes, bytes]:
    """Return the signing input and the signature."""
    signed, _, signature = token.rpartition(".")
    return signed.encode(), jwt.utils.base64url_decode(signature)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_repr_does_not_contain_the_key(algorithm: str) -> None:
    key = VerificationKey(algorithm, key_pair(algorithm)[1])
    assert repr(key) == f"<{algorithm} key>"
    assert str(key) == repr(key)


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", "no key"), ("ES256", SECRET)])
def test_key_that_does_not_fit_its_algorithm_is_rejected(algorithm: str, key: object) -> None:
    with pytest.raises((jwt.InvalidKeyError, ValueError)):
        VerificationKey(algorithm, key)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_signature_of_any_length_does_not_verify(algorithm: str) -> None:
    key = VerificationKey(algorithm, key_pair(algorithm)[1])
    for length in (0, 1, 31, 32, 64, 96, 132, 256, 257, 4000):
        for octet in (b"\0", b"\1", b"\xff"):
            assert not key.verify(b"e30.e30", octet * length)


def test_algorithms_of_the_library_are_unchanged() -> None:
    VerificationKey("HS256", SECRET)
    token = compact({"id": "pt_1"}, secret=SECRET[::-1])
    assert jwt.decode(token, SECRET[::-1], algorithms=["HS256"]) == {"id": "pt_1"}


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_verification_with_a_minimal_secret_does_not_warn(algorithm: str) -> None:
    secret = b"exactly-32-bytes-and-none-beyond"
    with warnings.catch_warnings(action="ignore"):  # signing warns
        token = jwt.encode({"id": "pt_1"}, secret, algorithm=algorithm)
    assert VerificationKey(algorithm, secret).verify(*parts(token))

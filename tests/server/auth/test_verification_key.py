"""A key that checks signatures: PyJWT's, prepared once, for one algorithm."""

import warnings

import jwt
import pytest
from jwt.algorithms import get_default_algorithms

from server.auth.verification_key import VerificationKey
from tests.middlewares.tokens import SECRET, compact, key_pair

ALGORITHMS = sorted(set(get_default_algorithms()) - {"none", "ES256K", "ES521"})


def parts(token: str) -> tuple[bytes, bytes]:
    """Give what is signed, and the signature."""
    signed, _, signature = token.rpartition(".")
    return signed.encode(), jwt.utils.base64url_decode(signature)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_repr_does_not_contain_the_key(algorithm: str) -> None:
    key = VerificationKey(algorithm, key_pair(algorithm)[1])
    assert repr(key) == f"<{algorithm} key>"
    assert str(key) == repr(key)


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", "no key"), ("ES256", SECRET)])
def test_a_key_unfit_for_its_algorithm_is_refused_when_it_is_made(
    algorithm: str, key: object
) -> None:
    with pytest.raises((jwt.InvalidKeyError, ValueError)):
        VerificationKey(algorithm, key)


def test_two_keys_of_one_algorithm_do_not_get_in_each_others_way() -> None:
    first, second = VerificationKey("HS256", SECRET), VerificationKey("HS256", SECRET[::-1])
    signed, signature = parts(compact({"id": "pt_1"}, secret=SECRET))
    assert first.verify(signed, signature)
    assert not second.verify(signed, signature)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("length", [0, 1, 31, 32, 64, 96, 132, 256, 257, 4000])
def test_no_length_of_a_signature_does_anything_but_not_verify(algorithm: str, length: int) -> None:
    key = VerificationKey(algorithm, key_pair(algorithm)[1])
    for octet in (b"\0", b"\1", b"\xff"):
        assert not key.verify(b"e30.e30", octet * length)


def test_other_users_of_the_library_keep_its_algorithms_as_they_were() -> None:
    VerificationKey("HS256", SECRET)
    token = compact({"id": "pt_1"}, secret=SECRET[::-1])
    assert jwt.decode(token, SECRET[::-1], algorithms=["HS256"]) == {"id": "pt_1"}


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_that_the_settings_take_is_not_warned_of_for_every_token(algorithm: str) -> None:
    secret = b"exactly-32-bytes-and-none-beyond"
    with warnings.catch_warnings(action="ignore"):  # whoever signs is warned
        token = jwt.encode({"id": "pt_1"}, secret, algorithm=algorithm)
    assert VerificationKey(algorithm, secret).verify(*parts(token))

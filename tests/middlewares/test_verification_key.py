"""A key that both libraries take, prepared once."""

import warnings

import jwt
import pytest

from middlewares.catalogue import ApiError
from middlewares.verification_key import VerificationKey
from tests.middlewares.tokens import SECRET, compact, key_pair


def test_a_key_is_text_to_one_library_and_a_bound_key_to_the_other() -> None:
    key = VerificationKey("HS256", SECRET)
    assert isinstance(key, str)
    assert key
    assert isinstance(key, jwt.PyJWK)
    assert key.algorithm_name == "HS256"


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_no_text_of_a_key_tells_the_key(algorithm: str) -> None:
    key = VerificationKey(algorithm, key_pair(algorithm)[1])
    for text in (str(key), f"{key}", key + "", repr(key)):
        assert SECRET.decode() not in text
        assert "BEGIN" not in text


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", "no key"), ("ES256", SECRET)])
def test_a_key_unfit_for_its_algorithm_is_refused_when_it_is_made(
    algorithm: str, key: object
) -> None:
    with pytest.raises((jwt.InvalidKeyError, ValueError)):
        VerificationKey(algorithm, key)


def test_two_keys_of_one_algorithm_do_not_get_in_each_others_way() -> None:
    first, second = VerificationKey("HS256", SECRET), VerificationKey("HS256", SECRET[::-1])
    token = compact({"id": "pt_1"}, secret=SECRET)
    assert jwt.decode(token, first, algorithms=["HS256"]) == {"id": "pt_1"}
    with pytest.raises(ApiError, match="AUTH_TOKEN_INVALID"):
        jwt.decode(token, second, algorithms=["HS256"])


def test_other_users_of_the_library_keep_its_algorithms_as_they_were() -> None:
    VerificationKey("HS256", SECRET)
    token = compact({"id": "pt_1"}, secret=SECRET[::-1])
    assert jwt.decode(token, SECRET[::-1], algorithms=["HS256"]) == {"id": "pt_1"}


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_that_the_settings_take_is_not_warned_of_for_every_token(algorithm: str) -> None:
    secret = b"exactly-32-bytes-and-none-beyond"
    with warnings.catch_warnings(action="ignore"):  # whoever signs is warned
        token = jwt.encode({"id": "pt_1"}, secret, algorithm=algorithm)
    key = VerificationKey(algorithm, secret)
    assert jwt.decode(token, key, algorithms=[algorithm]) == {"id": "pt_1"}

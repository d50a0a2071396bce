"""The key set as tool servers read it."""

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from server.proof import public_jwk, thumbprint
from tests import pems

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_thumbprint_is_that_of_the_example() -> None:
    # The key of RFC 7517 appendix A.1; openssl dgst computed its thumbprint.
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        "use": "enc",
        "kid": "1",
    }
    assert thumbprint(jwk) == "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"


@settings(max_examples=50)
@given(st.integers(min_value=1, max_value=ORDER - 1))
def test_each_key_is_read_as_joserfc_reads_it(number: int) -> None:
    key = ec.derive_private_key(number, ec.SECP256R1())
    other = ECKey.import_key(pems.public(key))
    expected = {**other.as_dict(private=False), "kid": other.thumbprint()}
    assert public_jwk(key) == {**expected, "use": "sig", "alg": "ES256"}

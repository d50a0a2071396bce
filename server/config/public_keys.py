"""Public keys, and the signature algorithms (RFC 7518, RFC 8037) that each may check."""

from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

HMAC_ALGORITHMS: Final = frozenset({"HS256", "HS384", "HS512"})
RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
PUBLIC_ALGORITHMS: Final = RSA_ALGORITHMS | {"ES256", "ES384", "ES512", "EdDSA"}

MIN_RSA_BITS: Final = 2048

_OF_CURVE: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def load_public_key(pem: str) -> object:
    """Load a PEM public key. Raises ValueError, in words for an operator, for anything else."""
    if "PRIVATE KEY" in pem:
        raise ValueError("holds a private key; give the public one")
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("holds no PEM public key (-----BEGIN PUBLIC KEY-----)") from None
    if not algorithms_of(key):
        raise ValueError(f"holds a key that is too weak (RSA under {MIN_RSA_BITS} bits) or no use")
    return key


def algorithms_of(key: object) -> frozenset[str]:
    """Name the algorithms a public key may check signatures of: none for one that is too weak."""
    if isinstance(key, rsa.RSAPublicKey):
        return RSA_ALGORITHMS if key.key_size >= MIN_RSA_BITS else frozenset()
    if isinstance(key, ec.EllipticCurvePublicKey):
        algorithm = _OF_CURVE.get(key.curve.name)
        return frozenset({algorithm}) if algorithm else frozenset()
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset({"EdDSA"})
    return frozenset()

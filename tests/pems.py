"""Keys of every type, as PEM, and the settings of patient proofs."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from rig.rsa_keys import rsa_key

RSA = rsa_key(2)
WEAK = rsa_key(bits=1024)
DSA = dsa.generate_private_key(1024)
P256 = ec.generate_private_key(ec.SECP256R1())
OTHER_P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
K256 = ec.generate_private_key(ec.SECP256K1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
ED448 = ed448.Ed448PrivateKey.generate()


def public(key: Any) -> str:
    """Return the public key as PEM."""
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def private(key: Any) -> str:
    """Return the private key as PEM."""
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


PROOF = {
    "PROOF_KEY": private(P256),
    "PROOF_ISSUER": "https://sessions.example",
    "PROOF_AUDIENCE": "https://tools.example",
}
"""Variables of a service that issues proofs."""

"""The keys in the settings: public keys of tokens, and the private keys of patient proofs."""

import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from server.config.settings import Settings

HMAC_ALGORITHMS: Final = frozenset({"HS256", "HS384", "HS512"})
RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
ED25519_ALGORITHMS: Final = frozenset({"EdDSA", "Ed25519"})
"""Two names of one algorithm (RFC 9864); an Ed448 key has the former only."""
PUBLIC_ALGORITHMS: Final = RSA_ALGORITHMS | {"ES256", "ES384", "ES512"} | ED25519_ALGORITHMS

MIN_RSA_BITS: Final = 2048

MAX_PEM_BLOCKS: Final = 8

PublicKey = PublicKeyTypes

PEM_BLOCK: Final = re.compile(r"-----BEGIN .*?(?=-----BEGIN |\Z)", re.DOTALL)
"""A PEM block, with the text up to the next; the PEM reader ignores text after the block."""

_OF_CURVE: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def load_public_keys(pem: str) -> tuple[PublicKey, ...]:
    """Load the public keys of up to `MAX_PEM_BLOCKS` PEM blocks (RFC 7468), in their order.

    Raises ValueError, with a message for an operator, when a block is not a usable public key.
    """
    blocks = PEM_BLOCK.findall(pem)
    if not blocks:
        raise ValueError("contains no PEM public key (-----BEGIN PUBLIC KEY-----)")
    if len(blocks) > MAX_PEM_BLOCKS:
        raise ValueError(f"contains more than {MAX_PEM_BLOCKS} PEM blocks")
    return tuple(_load(block, f"PEM block {number}") for number, block in enumerate(blocks, 1))


def require_end(block: str, name: str) -> None:
    """Raise ValueError for a PEM block that was cut, as in a `.env` file without quotes."""
    if "-----END " not in block:
        raise ValueError(f"{name} has no END line: put the PEM in double quotes or in a file")


def _load(block: str, name: str) -> PublicKey:
    require_end(block, name)
    if "PRIVATE KEY" in block:
        raise ValueError(f"{name} is a private key: give its public key (openssl pkey -pubout)")
    if "CERTIFICATE" in block:
        raise ValueError(f"{name} is a certificate: give its key (openssl x509 -pubkey -noout)")
    try:
        key = load_pem_public_key(block.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{name} is not a PEM public key (-----BEGIN PUBLIC KEY-----)") from None
    if not algorithms_of(key):
        raise ValueError(
            f"{name} is too weak (RSA under {MIN_RSA_BITS} bits) or of a kind that JWTs do not use"
        )
    return key


def algorithms_of(key: object) -> frozenset[str]:
    """Return the algorithms that a public key can verify: none for a weak or other key."""
    if isinstance(key, rsa.RSAPublicKey):
        return RSA_ALGORITHMS if key.key_size >= MIN_RSA_BITS else frozenset()
    if isinstance(key, ec.EllipticCurvePublicKey):
        algorithm = _OF_CURVE.get(key.curve.name)
        return frozenset({algorithm}) if algorithm else frozenset()
    if isinstance(key, ed25519.Ed25519PublicKey):
        return ED25519_ALGORITHMS
    return frozenset({"EdDSA"}) if isinstance(key, ed448.Ed448PublicKey) else frozenset()


def accepted_algorithms(key: object, chosen: Collection[str]) -> frozenset[str]:
    """Return the chosen algorithms that a public key can verify.

    For an Ed25519 key `EdDSA` and `Ed25519` are one algorithm: who chooses one accepts both.
    """
    usable = algorithms_of(key)
    accepted = usable.intersection(chosen)
    return usable if accepted and usable == ED25519_ALGORITHMS else accepted


PROOF_TYPE: Final = "patient-proof+jwt"
"""The `typ` of a patient proof (RFC 7515 section 4.1.9)."""

_CURVE_ONLY: Final = "-----BEGIN EC PARAMETERS-----"
"""`openssl ecparam -genkey` writes the curve's name into a block of its own."""


def load_proof_keys(pem: str) -> list[ec.EllipticCurvePrivateKey]:
    """Load the P-256 private keys in a PEM value, each of them once; the first one signs.

    Raises ValueError, with a message for an operator, when a block is not such a key.
    """
    blocks = [block for block in PEM_BLOCK.findall(pem) if not block.startswith(_CURVE_ONLY)]
    if not blocks:
        raise ValueError("contains no PEM private key (-----BEGIN PRIVATE KEY-----)")
    keys = [_load_private(block, f"PEM block {number}") for number, block in enumerate(blocks, 1)]
    return list({key.private_numbers().private_value: key for key in keys}.values())


def _load_private(block: str, name: str) -> ec.EllipticCurvePrivateKey:
    require_end(block, name)
    if "ENCRYPTED" in block:
        raise ValueError(f"{name} is encrypted: give the key without a passphrase")
    if "PRIVATE KEY" not in block:
        raise ValueError(f"{name} is not a private key: a private P-256 key signs the proofs")
    try:
        key = load_pem_private_key(block.encode(), password=None)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{name} is not a PEM private key (-----BEGIN PRIVATE KEY-----)") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ValueError(f"{name} is not a P-256 key (prime256v1, secp256r1)")
    return key


def check_proof(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the faults of the `PROOF_…` variables, each with the name of its variable."""
    if not settings.proof_key:
        return
    for name in ("PROOF_ISSUER", "PROOF_AUDIENCE"):
        if not getattr(settings, name.lower()):
            yield name, "is required with PROOF_KEY"
    try:
        keys = load_proof_keys(settings.proof_key)
    except ValueError as error:
        yield "PROOF_KEY", str(error)
        return
    verifying: tuple[PublicKey, ...] = ()
    with suppress(ValueError):  # a fault of JWT_PUBLIC_KEY, which has a check of its own
        verifying = load_public_keys(settings.jwt_public_key)
    if any(key.public_key() in verifying for key in keys):
        yield "PROOF_KEY", "must not be a key of JWT_PUBLIC_KEY, which verifies patients' tokens"

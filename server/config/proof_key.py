"""`PROOF_KEY`: the private keys that sign patient proofs."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from server.config.public_keys import PEM_BLOCK, PublicKey, load_public_keys, require_end
from server.config.settings import Settings

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
    keys = [_load(block, f"PEM block {number}") for number, block in enumerate(blocks, 1)]
    return list({key.private_numbers().private_value: key for key in keys}.values())


def _load(block: str, name: str) -> ec.EllipticCurvePrivateKey:
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

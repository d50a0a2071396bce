"""A key for patient proofs, and the invalid proofs that an attacking app sends."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from enum import StrEnum
from time import time
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from server.config import Settings
from server.proof import make_proof_issuer

_DAY_SECONDS = 86_400


def new_proof_key() -> str:
    """Return a new private key for `PROOF_KEY`."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


class BadProof(StrEnum):
    """The defect of a proof."""

    OLD = "old"
    OTHER_PATIENT = "other_patient"


def bad_proof(settings: Settings, kind: BadProof, *, proof: str, patient: str) -> str:
    """Return a proof that was issued a day ago, or `proof` with another patient written into it.

    Raises ValueError without `PROOF_KEY`, and for a proof that is not a compact JWS.
    """
    if kind is BadProof.OTHER_PATIENT:
        return _with_patient(proof, patient)
    issue = make_proof_issuer(settings, lambda: time() - _DAY_SECONDS)
    if issue is None:
        raise ValueError("PROOF_KEY is not set")
    return issue(patient, settings.vapi_assistant_id, None).token


def _with_patient(proof: str, patient: str) -> str:
    header, payload, signature = proof.split(".")
    claims: dict[str, Any] = msgspec.json.decode(urlsafe_b64decode(payload + "=="))
    changed = msgspec.json.encode({**claims, "sub": patient})
    return f"{header}.{urlsafe_b64encode(changed).rstrip(b'=').decode()}.{signature}"

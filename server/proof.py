"""Patient proofs: compact JWS (RFC 7515) with ES256, and their public keys as a JWK Set."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Final, NamedTuple

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from jwt.algorithms import ECAlgorithm

from middlewares.context import Clock
from server.config import Settings
from server.config.keys import PROOF_TYPE, load_proof_keys


def public_jwks(keys: Iterable[EllipticCurvePrivateKey]) -> dict[str, list[dict[str, str]]]:
    """Return the JWK Set with the public half of each key."""
    return {"keys": [public_jwk(key) for key in keys]}


def public_jwk(key: EllipticCurvePrivateKey) -> dict[str, str]:
    """Return the public half of a key, with its thumbprint as key id."""
    members: dict[str, Any] = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**members, "kid": thumbprint(members), "use": "sig", "alg": "ES256"}


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the SHA-256 thumbprint of an elliptic-curve key (RFC 7638)."""
    required = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    text = json.dumps(required, sort_keys=True, separators=(",", ":"))
    return urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()


_ALGORITHM: Final = "ES256"
_ID_BYTES: Final = 16


class PatientProof(NamedTuple):
    """A compact JWS, and its `jti`."""

    token: str
    id: str


IssueProof = Callable[[str], PatientProof]
"""Signs a new proof for a patient id."""


def make_proof_issuer(settings: Settings, clock: Clock) -> IssueProof | None:
    """Return the function that signs proofs with the first key of `PROOF_KEY`; None without one.

    PyJWT signs. The segments are written here, because the header is the same for all proofs.
    """
    if not settings.proof_key:
        return None
    key = load_proof_keys(settings.proof_key)[0]
    header = {"alg": _ALGORITHM, "typ": PROOF_TYPE, "kid": public_jwk(key)["kid"]}
    encode = msgspec.json.Encoder().encode
    header_segment = _base64url(encode(header))
    sign = jwt.get_algorithm_by_name(_ALGORITHM).sign

    def issue(patient_id: str) -> PatientProof:
        now = int(clock())
        proof_id = token_urlsafe(_ID_BYTES)
        claims = {
            "iss": settings.proof_issuer,
            "aud": settings.proof_audience,
            "sub": patient_id,
            "jti": proof_id,
            "assistantId": settings.vapi_assistant_id,
            "iat": now,
            "exp": now + settings.vapi_token_ttl_seconds,
        }
        signing_input = header_segment + b"." + _base64url(encode(claims))
        token = signing_input + b"." + _base64url(sign(signing_input, key))
        return PatientProof(token.decode(), proof_id)

    return issue


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")

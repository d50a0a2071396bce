"""The public keys of patient proofs as a JWK Set (RFC 7517)."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from jwt.algorithms import ECAlgorithm


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

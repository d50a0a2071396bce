"""Tokens for the tests of this package: correctly signed, with any header and payload."""

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from middlewares.context import Principal
from rig.rsa_keys import rsa_key
from rig.service import sign
from server.auth import tokens
from server.auth.claims import ClaimRules, Claims
from server.auth.tokens import VerificationKey, Verify
from tests.middlewares.support import NOW

SECRET = b"a-secret-of-these-tests-that-is-long-enough-for-each-of-HS256-HS384-HS512"
LONG_AGO = 1_000_000_000.0
RULES = ClaimRules(patient_id_claim="id", role_claim="type")
Part = Mapping[str, Any] | list[Any] | bytes


def segment(part: Part) -> str:
    """Encode a segment: JSON, or any bytes."""
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(payload: Part, header: Part | None = None, *, secret: bytes = SECRET) -> str:
    """Sign any header and payload with HS256."""
    head = {"alg": "HS256", "typ": "JWT"} if header is None else header
    content = f"{segment(head)}.{segment(payload)}"
    return f"{content}.{segment(hmac.digest(secret, content.encode(), 'sha256'))}"


def claims(**more: Any) -> dict[str, Any]:
    """Return a patient's claims, valid at `NOW` and today; a value of `...` omits the claim."""
    all_ = {"id": "pt_1", "type": "patient", "iat": LONG_AGO, "exp": NOW + 60, **more}
    return {name: value for name, value in all_.items() if value is not ...}


def parsed(text: str) -> Claims:
    """Read JSON like a payload: with NaN and numbers of any size."""
    value: Claims = json.loads(text)
    return value


@cache
def private_key(algorithm: str) -> Any:
    """Return a private key, one for each type."""
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    if algorithm in curves:
        return ec.generate_private_key(curves[algorithm])
    if algorithm in {"EdDSA", "Ed25519"}:
        return ed25519.Ed25519PrivateKey.generate()
    return rsa_key()


def key_pair(algorithm: str) -> tuple[Any, Any]:
    """Return the key that signs and the key that verifies."""
    if algorithm.startswith("HS"):
        return SECRET, SECRET
    key = private_key(algorithm)
    return key, key.public_key()


def signed_with(algorithm: str, payload: Mapping[str, Any], key: Any) -> str:
    """Sign claims with PyJWT."""
    return sign(payload, key, algorithm)


def admit(rules: ClaimRules, payload: Claims) -> Principal:
    """Return the principal of verified claims, with their dates checked at `NOW`."""
    principal = rules.principal_from(payload)
    rules.check_dates(principal, NOW)
    return principal


def make_verify(algorithm: str, key: object, *, issuer: str = "", audience: str = "") -> Verify:
    """Return what verifies with one key; an empty issuer or audience is not checked."""
    audiences, issuers = [audience] if audience else [], [issuer] if issuer else []
    key = VerificationKey(algorithm, key)
    return tokens.make_verify(key, issuers=issuers, audiences=audiences)

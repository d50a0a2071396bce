"""An app with a key: tokens that are bound to it, and proofs (RFC 9449)."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from time import time
from typing import Any
from uuid import uuid4

import jwt
import jwt.algorithms
from cryptography.hazmat.primitives.asymmetric import ec

from rig.service import PATH, claims, sign

PUBLIC_URL = "https://voice.clinic.example"
ACCEPT = {"JWT_DPOP": "accept", "PUBLIC_URL": PUBLIC_URL}
REQUIRE = {**ACCEPT, "JWT_DPOP": "require"}

CHALLENGE = 'realm="vapi-sessions"'
ALGORITHMS = 'algs="ES256 RS256 EdDSA"'
_REQUIRED = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def segment(value: object) -> str:
    return base64url(json.dumps(value).encode())


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the thumbprint of a key (RFC 7638)."""
    required = {name: jwk[name] for name in _REQUIRED[jwk["kty"]]}
    text = json.dumps(required, sort_keys=True, separators=(",", ":"))
    return base64url(sha256(text.encode()).digest())


class App:
    """An app with a key pair."""

    def __init__(self, algorithm: str = "ES256", key: Any = None) -> None:
        self.algorithm = algorithm
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self._implementation: Any = jwt.algorithms.get_default_algorithms()[algorithm]
        made = self._implementation.to_jwk(self.key.public_key(), as_dict=True)
        self.jwk = {name: value for name, value in made.items() if name != "key_ops"}

    @property
    def confirmation(self) -> dict[str, str]:
        """The `cnf` claim of a token that is bound to the key."""
        return {"jkt": thumbprint(self.jwk)}

    def token(self, **more: Any) -> str:
        """Sign a patient's token that is bound to the key."""
        return sign(claims(**{"cnf": self.confirmation, **more}))

    def proof(
        self,
        token: str,
        header: Mapping[str, Any] | None = None,
        *,
        signer: Any = None,
        **more: Any,
    ) -> str:
        """Sign a proof for a session request; a value of `...` omits a claim or parameter."""
        usual = {"typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.jwk}
        payload = {
            "jti": uuid4().hex,
            "htm": "POST",
            "htu": PUBLIC_URL + PATH,
            "iat": int(time()),
            "ath": base64url(sha256(token.encode()).digest()),
        }
        parts = [{**usual, **(header or {})}, {**payload, **more}]
        signing_input = ".".join(
            segment({name: value for name, value in part.items() if value is not ...})
            for part in parts
        )
        signature = self._implementation.sign(signing_input.encode(), signer or self.key)
        return f"{signing_input}.{base64url(signature)}"

    def headers(self, token: str, proof: str | None = None) -> dict[str, str]:
        """Return the headers of a request with this token and a proof."""
        return {"Authorization": f"DPoP {token}", "DPoP": proof or self.proof(token)}

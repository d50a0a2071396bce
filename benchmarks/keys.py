"""Keys of each algorithm, and tokens: distinct, repeated and forged."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rig.service import SECRET

DISTINCT = 20_000
REPEATED = 200


@dataclass(frozen=True, slots=True)
class Material:
    """The keys of one algorithm, and the settings of the service for them."""

    algorithm: str
    signing_key: Any
    verification_key: str
    prepared: Any
    variables: dict[str, str]


def _secret() -> Material:
    return Material("HS256", SECRET, SECRET, SECRET.encode(), {"JWT_SECRET": SECRET})


def _pair(algorithm: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> Material:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    pem = public.decode()
    variables = {"JWT_PUBLIC_KEY": pem, "JWT_ALGORITHMS": algorithm}
    return Material(algorithm, key, pem, key.public_key(), variables)


MATERIALS: dict[str, Callable[[], Material]] = {
    "HS256": _secret,
    "RS256": lambda: _pair("RS256", rsa.generate_private_key(65537, 2048)),
    "ES256": lambda: _pair("ES256", ec.generate_private_key(ec.SECP256R1())),
    "ES512": lambda: _pair("ES512", ec.generate_private_key(ec.SECP521R1())),
}


def make_token(material: Material, patient: int) -> str:
    """Sign a token for the patient with this number."""
    now = int(time())
    claims = {
        "iss": "https://identity.example/",
        "id": f"pt_{patient:06d}",
        "type": "patient",
        "jti": f"{patient:032x}",
        "iat": now,
        "exp": now + 36_000,
    }
    return jwt.encode(claims, material.signing_key, algorithm=material.algorithm)


def forge(token: str) -> str:
    """Alter a digit of a signature that must be computed to be found invalid.

    The first digits of both halves of an ECDSA signature are not: too large, they are refused.
    """
    content, _, signature = token.rpartition(".")
    place = len(signature) // 4
    other = "B" if signature[place] == "A" else "A"
    return f"{content}.{signature[:place]}{other}{signature[place + 1 :]}"


def write_tokens(material: Material, folder: Path) -> dict[str, Path]:
    """Write files of tokens, one a line: 20,000 distinct, 200 repeated and 20,000 forged ones."""
    distinct = [make_token(material, patient) for patient in range(DISTINCT)]
    lists = {
        "distinct": distinct,
        "repeated": distinct[:REPEATED],
        "forged": [forge(token) for token in distinct],
    }
    files = {}
    for name, tokens in lists.items():
        files[name] = folder / f"{material.algorithm}-{name}.txt"
        files[name].write_text("\n".join(tokens) + "\n")
    return files

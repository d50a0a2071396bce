"""Proofs of possession (DPoP, RFC 9449): a bound token is accepted only with the key of its app."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection
from functools import lru_cache
from hashlib import sha256
from typing import Final, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from msgspec import UNSET, UnsetType

from middlewares.authentication import VerifyProof, faulty_proof
from middlewares.context import Clock
from server.auth.tokens import VerificationKey, base64url_decode

MAX_AGE_SECONDS: Final = 60
MAX_ID_CHARACTERS: Final = 256

_KEY_TYPES: Final = {"ES256": ("EC", "P-256"), "RS256": ("RSA", ""), "EdDSA": ("OKP", "Ed25519")}

ALGORITHMS: Final = " ".join(_KEY_TYPES)
"""The algorithms of proofs, as `algs` of a challenge lists them."""

_RSA_BITS: Final = range(2048, 4096 + 1)
_MAX_EXPONENT_BYTES: Final = 8
_COORDINATE_BYTES: Final = 32
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)")
_PERCENT: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]")
_DEFAULT_PORTS: Final = {"https": ":443", "http": ":80"}

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
_Forbidden = msgspec.Raw | UnsetType
_T = TypeVar("_T")


class Jwk(msgspec.Struct):
    """A JSON Web Key (RFC 7517). It must have none of the members of a private or symmetric key."""

    kty: str
    crv: str = ""
    x: str = ""
    y: str = ""
    n: str = ""
    e: str = ""
    d: _Forbidden = UNSET
    p: _Forbidden = UNSET
    q: _Forbidden = UNSET
    dp: _Forbidden = UNSET
    dq: _Forbidden = UNSET
    qi: _Forbidden = UNSET
    oth: _Forbidden = UNSET
    k: _Forbidden = UNSET

    def is_public(self) -> bool:
        """Return whether the key has public members only."""
        secret = (self.d, self.p, self.q, self.dp, self.dq, self.qi, self.oth, self.k)
        return all(each is UNSET for each in secret)


class _Header(msgspec.Struct):
    typ: str
    alg: str
    jwk: Jwk
    crit: _Forbidden = UNSET
    b64: _Forbidden = UNSET


class _Claims(msgspec.Struct):
    jti: str
    htm: str
    htu: str
    iat: int | float
    ath: str


_read_header: Final = msgspec.json.Decoder(_Header).decode
_read_claims: Final = msgspec.json.Decoder(_Claims).decode


def make_proof_verifier(public_urls: Collection[str], clock: Clock) -> VerifyProof:
    """Return the function that verifies the proof of a request (RFC 9449 section 4.3).

    Its path is below one of the public addresses. The caller checks that the `jti` was not used
    before.
    """

    def verify(proof: str, *, method: str, path: str, token: str, key_thumbprint: str) -> str:
        match = _COMPACT.fullmatch(proof)
        if match is None:
            raise faulty_proof("is not a compact JWS of three base64url segments")
        _verify_signature(proof, match[1], match[3], key_thumbprint)
        claims = _decode(match[2], _read_claims, "claims (jti, htm, htu, iat, ath)")
        _check_request(claims, method, [normalize(url.rstrip("/") + path) for url in public_urls])
        now = clock()
        if not now - MAX_AGE_SECONDS <= claims.iat <= now + MAX_AGE_SECONDS:
            raise faulty_proof(
                f"has an iat that is not within {MAX_AGE_SECONDS} s of the server's time, which is "
                "in the Date header of this response"
            )
        if claims.ath != _base64url_sha256(token.encode()):
            raise faulty_proof("is for another token (ath)")
        if not 1 <= len(claims.jti) <= MAX_ID_CHARACTERS:
            raise faulty_proof(f"must have a jti of 1 to {MAX_ID_CHARACTERS} characters")
        return claims.jti

    return verify


def _check_request(claims: _Claims, method: str, urls: Collection[str | None]) -> None:
    if claims.htm != method:
        raise faulty_proof("is for another method (htm)")
    address = normalize(claims.htu)
    if address is None or address not in urls:
        raise faulty_proof("is for another address (htu); compare it with PUBLIC_URL")


def _verify_signature(proof: str, header: str, signature: str, key_thumbprint: str) -> None:
    """Check the header, that its key is the key of the token, and the signature, in this order."""
    fields = _decode(header, _read_header, "header (typ, alg, jwk)")
    if fields.typ.lower().removeprefix("application/") != "dpop+jwt":
        raise faulty_proof("must have the typ dpop+jwt")
    if fields.crit is not UNSET or fields.b64 is not UNSET:
        raise faulty_proof("requires an extension (crit or b64)")
    if fields.alg not in _KEY_TYPES:
        raise faulty_proof(f"must have one of the algorithms {ALGORITHMS}")
    try:
        key = VerificationKey(fields.alg, load_public_key(fields.jwk, fields.alg))
        signature_bytes = base64url_decode(signature.encode())
    except ValueError:
        raise faulty_proof("has a jwk that is not an accepted public key of its alg") from None
    if key.thumbprint() != key_thumbprint:
        raise faulty_proof("has another key than the token (cnf.jkt)")
    if not key.verify(proof.rpartition(".")[0].encode(), signature_bytes):
        raise faulty_proof("has a signature that does not verify")


def _decode(segment: str, decode: Callable[[bytes], _T], name: str) -> _T:
    try:
        return decode(base64url_decode(segment.encode()))
    except (ValueError, RecursionError):
        raise faulty_proof(f"has a {name} that cannot be read") from None


# --- keys ---------------------------------------------------------------------------------------


def load_public_key(jwk: Jwk, algorithm: str) -> PublicKey:
    """Return the key: P-256, Ed25519, or RSA of 2,048 to 4,096 bits. Raises ValueError."""
    key_type, curve = _KEY_TYPES[algorithm]
    if not jwk.is_public() or jwk.kty != key_type or (curve and jwk.crv != curve):
        raise ValueError("another kind of key")
    if key_type == "RSA":
        return _load_rsa(_unsigned(jwk.n), _unsigned(jwk.e))
    x = _coordinate(jwk.x)
    if key_type == "OKP":
        return ed25519.Ed25519PublicKey.from_public_bytes(x)
    point = b"\x04" + x + _coordinate(jwk.y)
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


def _load_rsa(modulus: bytes, exponent: bytes) -> rsa.RSAPublicKey:
    n, e = int.from_bytes(modulus), int.from_bytes(exponent)
    if n.bit_length() not in _RSA_BITS or len(exponent) > _MAX_EXPONENT_BYTES:
        raise ValueError("a key of another size")
    return rsa.RSAPublicNumbers(e, n).public_key()


def _unsigned(member: str) -> bytes:
    """Decode a Base64urlUInt (RFC 7518 section 2), which has no leading zeros."""
    value = base64url_decode(member.encode())
    if value.startswith(b"\x00"):
        raise ValueError("leading zeros")
    return value


def _coordinate(member: str) -> bytes:
    value = base64url_decode(member.encode())
    if len(value) != _COORDINATE_BYTES:
        raise ValueError("a coordinate of another length")
    return value


def _base64url_sha256(data: bytes) -> str:
    return urlsafe_b64encode(sha256(data).digest()).rstrip(b"=").decode()


# --- addresses ----------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def normalize(url: str) -> str | None:
    """Normalize an address (RFC 3986 sections 6.2.2 and 6.2.3), without query and fragment.

    Returns None for what is not an absolute address with a host.
    """
    match = _URL.match(url)
    if match is None:
        return None
    scheme, authority = match[1].lower(), _normalize_percent(match[2]).lower()
    port = _DEFAULT_PORTS.get(scheme, ":")
    authority = authority.removesuffix(port).removesuffix(":")
    path = _remove_dot_segments(_normalize_percent(match[3])) or "/"
    return f"{scheme}://{_upper_percent(authority)}{path}" if authority else None


def _normalize_percent(text: str) -> str:
    """Decode escapes of unreserved characters; write the other escapes in upper case."""

    def replace(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if _UNRESERVED.fullmatch(character) else match[0].upper()

    return _PERCENT.sub(replace, text)


def _upper_percent(text: str) -> str:
    return _PERCENT.sub(lambda match: match[0].upper(), text)


def _remove_dot_segments(path: str) -> str:
    """Remove the segments `.` and `..` of a path that is empty or begins with a slash (5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments and segments[-1] in {".", ".."}:
        kept.append("")
    return "".join("/" + segment for segment in kept)

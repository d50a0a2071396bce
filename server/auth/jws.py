"""Reads a compact JWS (RFC 7515 section 7.1) strictly; does not verify it."""

from binascii import a2b_base64, b2a_base64
from functools import lru_cache
from typing import Final, NamedTuple

from middlewares.api_errors import Reason
from server.auth.claims import invalid_token
from server.auth.strict_json import decode_json
from server.config.proof_key import PROOF_TYPE

_TO_BASE64: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
"""Maps the base64url alphabet to base64, and characters only base64 has to an invalid character."""


class Header(NamedTuple):
    """The parameters of a JOSE header (RFC 7515 section 4.1) that verification needs."""

    algorithm: str
    key_id: str | None


def base64url_decode(segment: bytes) -> bytes:
    """Decode a segment (RFC 7515 appendix C).

    Raises ValueError for any but the canonical encoding: no padding, no unused bits, no characters
    outside the alphabet.
    """
    encoded = segment.translate(_TO_BASE64) + b"==="[: -len(segment) % 4]
    decoded = a2b_base64(encoded)
    # a2b_base64 ignores invalid characters and unused bits, so only the canonical form round-trips.
    if b2a_base64(decoded, newline=False) != encoded:
        raise ValueError("not canonical base64url")
    return decoded


@lru_cache(maxsize=256)
def read_header(segment: str) -> Header:
    """Read the header segment of a token.

    Raises `ApiError` AUTH_TOKEN_INVALID if it is not a JSON object, has no `alg`, has a `kid` that
    is not a string, requires an extension (`crit`, `b64`), or is the header of a patient proof.
    """
    try:
        header = decode_json(base64url_decode(segment.encode()))
    except (ValueError, RecursionError):
        raise invalid_token("The token's header is not JSON", Reason.FORMAT) from None
    if not isinstance(header, dict):
        raise invalid_token("The token's header is not a JSON object", Reason.FORMAT)
    if "crit" in header or "b64" in header:
        raise invalid_token("The token's header requires an extension (crit or b64)", Reason.FORMAT)
    if _is_proof_type(header.get("typ")):
        raise invalid_token(
            "The token is a patient proof (typ), not a patient's token", Reason.TYPE
        )
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise invalid_token("The token's header has no alg", Reason.ALGORITHM)
    if "kid" in header and not isinstance(key_id, str):
        raise invalid_token("The token's header has a kid that is not a string", Reason.FORMAT)
    return Header(algorithm, key_id)


def _is_proof_type(typ: object) -> bool:
    """Compare as media types are compared (RFC 7515 section 4.1.9)."""
    return isinstance(typ, str) and typ.lower().removeprefix("application/") == PROOF_TYPE

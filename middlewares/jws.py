"""A compact JWS (RFC 7515 section 7.1), read strictly: what it says, not whether that is true."""

from binascii import a2b_base64, b2a_base64
from functools import lru_cache
from typing import Final, NamedTuple

from middlewares.claims import invalid
from middlewares.untrusted import decode_json

_TO_BASE64: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
"""From base64url's letters to base64's; what only the latter has becomes a letter of neither."""


class Header(NamedTuple):
    """What matters of a JOSE header (RFC 7515 section 4.1)."""

    algorithm: str
    key_id: str | None


def base64url_decode(segment: bytes) -> bytes:
    """Decode a segment (RFC 7515 appendix C). Raises ValueError unless it is spelt as encoders do:
    of two spellings of one signature only one passes.
    """
    encoded = segment.translate(_TO_BASE64) + b"==="[: -len(segment) % 4]
    decoded = a2b_base64(encoded)
    # It passes over foreign letters and loose bits at the end: neither comes back.
    if b2a_base64(decoded, newline=False) != encoded:
        raise ValueError("not base64url")
    return decoded


@lru_cache(maxsize=256)
def read_header(segment: str) -> Header:
    """Read the first segment of a token.

    Raises `ApiError` AUTH_TOKEN_INVALID for one that is no JSON object, names no algorithm, has a
    `kid` that is no string, or demands an extension (`crit`, `b64`): none is understood here.
    """
    try:
        header = decode_json(base64url_decode(segment.encode()))
    except (ValueError, RecursionError):
        raise invalid("The token's header is not JSON") from None
    if not isinstance(header, dict):
        raise invalid("The token's header is not a JSON object")
    if "crit" in header or "b64" in header:
        raise invalid("The token's header demands an extension (crit or b64)")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise invalid("The token's header names no algorithm")
    if "kid" in header and not isinstance(key_id, str):
        raise invalid("The token's header has a kid that is no string")
    return Header(algorithm, key_id)

"""What stands in aiohttp-jwt for `jwt.decode`: a JWS verified by PyJWT's keys, its claims read."""

import json
from typing import Final

import msgspec

from middlewares.claims import Claims, invalid
from middlewares.jws import base64url_decode, read_header
from middlewares.verification_key import VerificationKey

_LACKS_A_CLAIM: Final = "The token lacks a claim that is required here (iss or aud)"


def decode(
    token: bytes,
    key: VerificationKey,
    algorithms: None = None,  # noqa: ARG001  the key has one, and takes no other
    audience: str | None = None,
    issuer: str | None = None,
) -> Claims:
    """Verify a compact JWS (RFC 7515 section 5.2); give its claims, once issuer and audience hold.

    None for `issuer` or `audience` leaves the claim unchecked. Raises `ApiError`
    AUTH_TOKEN_INVALID.
    """
    signed, _, signature = token.rpartition(b".")
    header, _, payload = signed.partition(b".")
    if read_header(header.decode()).algorithm != key.algorithm:
        raise invalid("The token's algorithm is not that of its key")
    try:
        if not key.verifies(signed, base64url_decode(signature)):
            raise invalid("The token's signature does not verify")
        claims = _read_claims(base64url_decode(payload))
    except (ValueError, RecursionError):
        raise invalid("The token is malformed") from None
    if issuer is not None:
        _check_issuer(claims, issuer)
    if audience is not None:
        _check_audience(claims, audience)
    return claims


def _read_claims(data: bytes) -> Claims:
    """Read the JSON object of a payload. Raises ValueError or RecursionError.

    What has no place in RFC 8259 is read as Python does, since issuers write it all the same: half
    a character of a name that was cut, a number out of all range.
    """
    try:
        claims = msgspec.json.decode(data)
    except ValueError:
        claims = json.loads(data.decode())
    if isinstance(claims, dict):
        return claims
    raise ValueError("not a JSON object")


def _check_issuer(claims: Claims, issuer: str) -> None:
    """Hold `iss` (RFC 7519 section 4.1.1) against the one issuer there is."""
    if "iss" not in claims:
        raise invalid(_LACKS_A_CLAIM)
    if claims["iss"] != issuer:
        raise invalid("The token comes from another issuer")


def _check_audience(claims: Claims, audience: str) -> None:
    """Look for the audience in `aud` (RFC 7519 section 4.1.3): a string, or a list of strings."""
    value = claims.get("aud")
    if not value:
        raise invalid(_LACKS_A_CLAIM)
    named = value if isinstance(value, list) else [value]
    if audience not in named or not all(isinstance(each, str) for each in named):
        raise invalid("The token is meant for another audience")

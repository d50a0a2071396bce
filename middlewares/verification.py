"""What stands in aiohttp-jwt for `jwt.decode`: PyJWT's algorithms check what is read here."""

import json
from typing import Final

import msgspec

from middlewares.catalogue import ApiError
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
    try:
        algorithm = read_header(header.decode()).algorithm
        made, content = base64url_decode(signature), base64url_decode(payload)
    except ValueError:
        raise _malformed() from None
    if algorithm != key.algorithm:
        raise invalid("The token's algorithm is not that of its key")
    if not key.verifies(signed, made):
        raise invalid("The token's signature does not verify")
    claims = _read_claims(content)
    if issuer is not None:
        _check_issuer(claims, issuer)
    if audience is not None:
        _check_audience(claims, audience)
    return claims


def _read_claims(data: bytes) -> Claims:
    """Read the JSON object of a payload whose signature holds."""
    try:
        claims = _read_json(data)
    except (ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(claims, dict):
        raise _malformed()
    return claims


def _read_json(data: bytes) -> object:
    """Read JSON in UTF-8. Raises ValueError or RecursionError.

    What msgspec refuses is tried again as Python reads it, since issuers write it: half of a
    surrogate pair, a number out of range, NaN.
    """
    try:
        return msgspec.json.decode(data)
    except ValueError:
        return json.loads(data.decode())


def _malformed() -> ApiError:
    return invalid("The token is malformed")


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

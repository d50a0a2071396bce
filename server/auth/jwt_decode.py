"""Decodes a signed JWT (RFC 7519): verifies its signature, issuer and audience."""

import json
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from middlewares.api_errors import ApiError, Reason
from server.auth.claims import Claims, invalid_token
from server.auth.jws import base64url_decode, read_header
from server.auth.verification_key import VerificationKey

Decode = Callable[[bytes], Claims]
"""Verifies a compact JWS and returns its claims. Raises `ApiError` AUTH_TOKEN_INVALID."""

_REQUIRED_CLAIM: Final = "The token lacks a required claim (iss or aud)"


def make_decode(
    *keys: VerificationKey, issuer: str = "", audiences: Collection[str] = ()
) -> Decode:
    """Return the decode function for tokens that one of the keys has signed.

    A signature is tried with each key of its algorithm, so a forged token costs one verification
    for each. An empty `issuer` or `audiences` leaves the claim unchecked; otherwise `aud` must
    contain one of the audiences.
    """
    accepted = frozenset(audiences)

    def decode(token: bytes) -> Claims:
        claims = _verified_claims(token, keys)
        if issuer:
            check_issuer(claims, issuer)
        if accepted:
            check_audience(claims, accepted)
        return claims

    return decode


def _verified_claims(token: bytes, keys: Collection[VerificationKey]) -> Claims:
    """Verify a compact JWS (RFC 7515 section 5.2) and return the claims of its payload."""
    signing_input, _, signature_segment = token.rpartition(b".")
    header, _, payload_segment = signing_input.partition(b".")
    try:
        algorithm = read_header(header.decode()).algorithm
        signature = base64url_decode(signature_segment)
        payload = base64url_decode(payload_segment)
    except ValueError:
        raise _malformed() from None
    fitting = [key for key in keys if key.algorithm == algorithm]
    if not fitting:
        raise invalid_token(
            "The token's algorithm is not the algorithm of its key", Reason.ALGORITHM
        )
    if not any(key.verify(signing_input, signature) for key in fitting):
        raise invalid_token("The token's signature does not verify", Reason.SIGNATURE)
    return read_claims(payload)


def read_claims(payload: bytes) -> Claims:
    """Read the JSON object of a payload. Raises `ApiError` AUTH_TOKEN_INVALID."""
    try:
        claims = _read_json(payload)
    except (ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(claims, dict):
        raise _malformed()
    return claims


def _read_json(data: bytes) -> object:
    """Read JSON in UTF-8. Raises ValueError or RecursionError.

    Issuers write some values that msgspec rejects and Python reads: unpaired surrogates, numbers
    out of range, NaN. Therefore Python reads what msgspec rejects.
    """
    try:
        return msgspec.json.decode(data)
    except ValueError:
        return json.loads(data.decode())


def _malformed() -> ApiError:
    return invalid_token("The token is malformed", Reason.FORMAT)


def check_issuer(claims: Claims, issuer: str) -> None:
    """Check `iss` (RFC 7519 section 4.1.1). Raises `ApiError` AUTH_TOKEN_INVALID."""
    if "iss" not in claims:
        raise invalid_token(_REQUIRED_CLAIM, Reason.ISSUER)
    if claims["iss"] != issuer:
        raise invalid_token("The token was issued by another issuer", Reason.ISSUER)


def check_audience(claims: Claims, accepted: frozenset[str]) -> None:
    """Check `aud` (RFC 7519 section 4.1.3): a string or a list of strings, one of them accepted.

    Raises `ApiError` AUTH_TOKEN_INVALID.
    """
    value = claims.get("aud")
    if not value:
        raise invalid_token(_REQUIRED_CLAIM, Reason.AUDIENCE)
    audiences = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in audiences) or accepted.isdisjoint(audiences):
        raise invalid_token("The token is for another audience", Reason.AUDIENCE)

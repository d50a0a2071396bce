"""Reads a compact JWS (RFC 7515) strictly; verifies its signature, issuer and audience."""

import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec
from jwt.algorithms import get_default_algorithms

from middlewares.errors import ApiError, Reason
from server.auth.claims import Claims, invalid_token
from server.config.keys import PROOF_TYPE
from server.proof import thumbprint

decode_json: Final = msgspec.json.Decoder(float_hook=lambda _: None).decode
"""Decode JSON strictly (RFC 8259); a number with a fraction or an exponent becomes None.

No field of this input is such a number, and an exact conversion of a thousand of them can take
milliseconds. Raises ValueError or RecursionError.
"""


_IMPLEMENTATIONS: Final = get_default_algorithms()
_IMPLEMENTATIONS["Ed25519"] = _IMPLEMENTATIONS["EdDSA"]  # RFC 9864


class VerificationKey:
    """A public key or HMAC secret, prepared once, and the one algorithm it is used with.

    Raises PyJWT's `InvalidKeyError` or ValueError for a key that does not fit the algorithm.
    """

    __slots__ = ("_key", "_verify", "algorithm")

    def __init__(self, algorithm: str, key: object) -> None:
        self.algorithm = algorithm
        implementation = _IMPLEMENTATIONS[algorithm]
        self._key = implementation.prepare_key(key)
        self._verify = implementation.verify

    def __repr__(self) -> str:
        return f"<{self.algorithm} key>"

    def thumbprint(self) -> str:
        """Return the SHA-256 thumbprint of a public key (RFC 7638)."""
        return thumbprint(_IMPLEMENTATIONS[self.algorithm].to_jwk(self._key, as_dict=True))

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Return whether the signature (RFC 7515 section 5.2) verifies with this key."""
        return self._verify(signing_input, self._key, signature)


_TO_BASE64: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
"""Maps the base64url alphabet to base64, and characters only base64 has to an invalid character."""


_OTHER_TYPES: Final = frozenset(
    {
        PROOF_TYPE,
        "dpop+jwt",
        "entity-statement+jwt",
        "id+jwt",
        "logout+jwt",
        "secevent+jwt",
    }
)
"""Types of JWTs that are not access tokens."""


class Header(NamedTuple):
    """The parameters of a JOSE header (RFC 7515 section 4.1) that verification needs."""

    algorithm: str
    key_id: str | None
    type: str | None = None
    """The media type `typ`, in lower case and without `application/`."""


MAX_CACHED_HEADERS: Final = 256
"""An issuer's tokens have the same few headers."""


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


@lru_cache(maxsize=MAX_CACHED_HEADERS)
def read_header(segment: str) -> Header:
    """Read the header segment of a token.

    Raises `ApiError` AUTH_TOKEN_INVALID if it is not a JSON object, has no `alg`, has a `kid` that
    is not a string, or requires an extension (`crit`, `b64`).
    """
    try:
        header = decode_json(base64url_decode(segment.encode()))
    except (ValueError, RecursionError):
        raise invalid_token("The token's header is not JSON", Reason.FORMAT) from None
    if not isinstance(header, dict):
        raise invalid_token("The token's header is not a JSON object", Reason.FORMAT)
    if "crit" in header or "b64" in header:
        raise invalid_token("The token's header requires an extension (crit or b64)", Reason.FORMAT)
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise invalid_token("The token's header has no alg", Reason.ALGORITHM)
    if "kid" in header and not isinstance(key_id, str):
        raise invalid_token("The token's header has a kid that is not a string", Reason.FORMAT)
    return Header(algorithm, key_id, _media_type(header.get("typ")))


def check_type(header: Header, required: str = "") -> None:
    """Check that `typ` is the required media type, or of no other kind than an access token.

    A patient proof is never a token, also when it is required. Raises `ApiError`
    AUTH_TOKEN_INVALID.
    """
    if required and header.type != _media_type(required):
        raise invalid_token("The token's typ is not JWT_REQUIRED_TYPE", Reason.TYPE)
    if header.type == PROOF_TYPE or (not required and header.type in _OTHER_TYPES):
        raise invalid_token(
            f"The token is not an access token: its typ is {header.type}", Reason.TYPE
        )


def _media_type(value: object) -> str | None:
    """Return a media type in the form in which it is compared (RFC 7515 section 4.1.9)."""
    return value.lower().removeprefix("application/") if isinstance(value, str) else None


Verify = Callable[[bytes], Claims]
"""Verifies a compact JWS and returns its claims. Raises `ApiError` AUTH_TOKEN_INVALID."""

_REQUIRED_CLAIM: Final = "The token lacks a required claim (iss or aud)"


def make_verify(
    *keys: VerificationKey, issuers: Collection[str] = (), audiences: Collection[str] = ()
) -> Verify:
    """Return the function that verifies tokens that one of the keys has signed.

    A signature is tried with each key of its algorithm in turn, so a forged token costs one
    verification for each. Empty `issuers` or `audiences` leave the claim unchecked; otherwise `iss`
    must be one of the issuers, and `aud` must contain one of the audiences.
    """
    trusted, accepted = frozenset(issuers), frozenset(audiences)

    def verify(token: bytes) -> Claims:
        claims = _verified_claims(token, keys)
        if trusted:
            check_issuer(claims, trusted)
        if accepted:
            check_audience(claims, accepted)
        return claims

    return verify


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
    has_key = False
    for key in keys:
        if key.algorithm == algorithm:
            has_key = True
            if key.verify(signing_input, signature):
                return read_claims(payload)
    if has_key:
        raise invalid_token("The token's signature does not verify", Reason.SIGNATURE)
    raise invalid_token("The token's algorithm is not the algorithm of its key", Reason.ALGORITHM)


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


def check_issuer(claims: Claims, trusted: frozenset[str]) -> None:
    """Check `iss` (RFC 7519 section 4.1.1). Raises `ApiError` AUTH_TOKEN_INVALID."""
    if "iss" not in claims:
        raise invalid_token(_REQUIRED_CLAIM, Reason.ISSUER)
    if not isinstance(claims["iss"], str) or claims["iss"] not in trusted:
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

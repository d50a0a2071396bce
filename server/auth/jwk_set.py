"""The usable keys of a JWKS document (RFC 7517), and why the others are not used."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from middlewares.errors import ApiError, Reason
from server.auth.aiohttp_jwt_adapter import Decoder
from server.auth.claims import Claims
from server.auth.tokens import base64url_decode
from server.config.keys import accepted_algorithms, algorithms_of

MAX_KEYS_OF_AN_ID: Final = 4
"""A token is tried with at most this many keys of its `kid`."""

_COORDINATE_BYTES: Final = {"P-256": 32, "P-384": 48, "P-521": 66}
_KINDS: Final[dict[str, Any]] = {
    "EC": ECAlgorithm,
    "OKP": OKPAlgorithm,
    "RSA": RSAAlgorithm,
    "oct": HMACAlgorithm,
}
_MAX_SHOWN: Final = 80

MakeDecoders = Callable[[object, Iterable[str]], Mapping[str, Decoder]]
"""Returns a decoder for each algorithm that a public key is used with."""


class NoUsableKeyError(ValueError):
    """The document is a JWKS, and none of its keys is usable."""


class JwkSet:
    """The decoders for the usable signature keys of a JWKS document.

    Ignored: symmetric keys, encryption keys, private keys, weak keys, keys for algorithms that are
    not allowed, and malformed entries. Raises `NoUsableKeyError` when no usable key remains, and
    another ValueError for a document that is not a JWKS.
    """

    def __init__(
        self, document: object, *, allowed: frozenset[str], make_decoders: MakeDecoders
    ) -> None:
        self._by_id: dict[str | None, dict[str, dict[bytes, Decoder]]] = {}
        self._by_algorithm: dict[str, dict[bytes, Decoder]] = {}
        self._keys: dict[str | None, set[bytes]] = {}
        unused: list[str] = []
        for jwk in _members(document):
            key, algorithms, reason = _read(jwk)
            algorithms &= accepted_algorithms(key, allowed)
            if not reason and not algorithms:
                reason = "no algorithm of it is one of JWT_ALGORITHMS"
            fingerprint = b"" if reason else _fingerprint(key)
            if not reason and not self._has_room(jwk.get("kid"), fingerprint):
                reason = f"more than {MAX_KEYS_OF_AN_ID} keys have this kid"
            if reason:
                unused.append(f"{json.dumps(jwk.get('kid'))[:_MAX_SHOWN]} ({reason})")
                continue
            decoders = make_decoders(key, algorithms)
            self._add(jwk.get("kid"), fingerprint, decoders)
        self.unused = tuple(unused)
        """The keys that are not used: for each its `kid` and the reason."""
        if not self._by_algorithm:
            raise NoUsableKeyError("no usable key")

    def _has_room(self, key_id: str | None, fingerprint: bytes) -> bool:
        """Return whether one more key may have this id; keys without an id are told apart."""
        known = self._keys.setdefault(key_id, set())
        if key_id is not None and len(known | {fingerprint}) > MAX_KEYS_OF_AN_ID:
            return False
        known.add(fingerprint)
        return True

    def _add(self, key_id: str | None, fingerprint: bytes, decoders: Mapping[str, Decoder]) -> None:
        """Add the decoders of a key; a key that is listed twice counts once."""
        for algorithm, decoder in decoders.items():
            same = self._by_algorithm.setdefault(algorithm, {}).setdefault(fingerprint, decoder)
            by_algorithm = self._by_id.setdefault(key_id, {})
            by_algorithm.setdefault(algorithm, {}).setdefault(fingerprint, same)

    def resolves(self, algorithm: str, key_id: str | None) -> bool:
        """Return whether this set determines the key of a token: a refetch is not needed."""
        if key_id is None:
            return self.find(algorithm, None) is not None
        return key_id in self._by_id

    def find(self, algorithm: str, key_id: str | None) -> Decoder | None:
        """Return the decoder of the keys with an id; without an id, of the only key that fits."""
        if key_id is not None:
            found = list(self._by_id.get(key_id, {}).get(algorithm, {}).values())
            return _any_of(found) if len(found) > 1 else next(iter(found), None)
        fitting = list(self._by_algorithm.get(algorithm, {}).values())
        return fitting[0] if len(fitting) == 1 else None


def _any_of(decoders: Sequence[Decoder]) -> Decoder:
    """Return a decoder that tries keys in turn until a signature verifies."""

    async def decoder(token: str) -> Claims:
        for decode in decoders[:-1]:
            try:
                return await decode(token)
            except ApiError as error:
                if error.reason is not Reason.SIGNATURE:
                    raise
        return await decoders[-1](token)

    return decoder


def _fingerprint(key: Any) -> bytes:
    """Return the SubjectPublicKeyInfo (RFC 5280), which is the same for the same key."""
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _members(document: object) -> list[Any]:
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("not a JWKS")  # noqa: TRY004  one type for every unusable document
    members = [jwk for jwk in keys if isinstance(jwk, dict)]
    return [{name: value for name, value in jwk.items() if value is not None} for jwk in members]


def _read(jwk: dict[str, Any]) -> tuple[object, frozenset[str], str]:
    """Return a key, the algorithms that it can verify, and why it is unusable, if it is."""
    if not _is_for_signatures(jwk):
        return None, frozenset(), "it is not for signatures"
    if not isinstance(jwk.get("kid"), str | None):
        return None, frozenset(), "its kid is not a string"
    try:
        key = _KINDS[jwk["kty"]].from_jwk(_padded(jwk))
    except Exception:  # noqa: BLE001  PyJWT raises many types for malformed keys
        return None, frozenset(), "it is malformed or of an unknown kind"
    usable = algorithms_of(key)
    if not usable:
        return None, frozenset(), "it is private, symmetric, too weak or of another curve"
    own = str(jwk.get("alg") or "")
    return key, accepted_algorithms(key, [own]) if own else usable, ""


def _padded(jwk: dict[str, Any]) -> dict[str, Any]:
    """Add the leading zeros of EC coordinates (RFC 7518 section 6.2.1.2) that issuers trim."""
    size = _COORDINATE_BYTES.get(jwk.get("crv", ""))
    if jwk.get("kty") != "EC" or size is None:
        return jwk
    padded = {name: base64url_decode(jwk[name].encode()).rjust(size, b"\0") for name in ("x", "y")}
    encoded = {name: urlsafe_b64encode(value).decode() for name, value in padded.items()}
    return {**jwk, **{name: value.rstrip("=") for name, value in encoded.items()}}


def _is_for_signatures(jwk: dict[str, Any]) -> bool:
    uses = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(uses, list) and "verify" in uses

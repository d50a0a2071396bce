"""The usable keys of a JWKS document (RFC 7517), and why the others are not used."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from server.auth.tokens import Verify, base64url_decode
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

MakeVerify = Callable[[str, Iterable[object]], Verify]
"""Returns the function that verifies tokens of an algorithm with any of some keys."""


class UnusedKey(NamedTuple):
    """A key that is not used, and why."""

    key_id: object
    reason: str

    def __str__(self) -> str:
        return f"{json.dumps(self.key_id)[:_MAX_SHOWN]} ({self.reason})"


def explain_unused(unused: Iterable[UnusedKey], key_id: str | None, otherwise: str) -> str:
    """Return why the key with this id is not used, or `otherwise` when it is not one of these."""
    for key in unused:
        if key_id is not None and key.key_id == key_id:
            return f"The token's key is published and not used here: {key.reason}"
    return otherwise


class NoUsableKeyError(ValueError):
    """The document is a JWKS, and none of its keys is usable."""

    def __init__(self, unused: tuple[UnusedKey, ...]) -> None:
        super().__init__("no usable key")
        self.unused = unused


class _UnusableKeyError(ValueError):
    """A key is not usable; the message has the reason."""


class _Key(NamedTuple):
    """A usable key: its `kid`, what identifies it, and its algorithms that are allowed."""

    id: str | None
    fingerprint: bytes
    public: object
    algorithms: frozenset[str]


class JwkSet:
    """The usable signature keys of a JWKS document.

    Not used: symmetric keys, encryption keys, private keys, weak keys, keys for algorithms that are
    not allowed, `excluded` public keys, and malformed entries. Raises `NoUsableKeyError` when no
    usable key remains, and another ValueError for a document that is not a JWKS.
    """

    def __init__(
        self,
        document: object,
        *,
        allowed: Collection[str],
        make_verify: MakeVerify,
        excluded: Collection[object] = (),
    ) -> None:
        unused: list[UnusedKey] = []
        by_id: dict[str | None, list[_Key]] = {}
        for jwk in _members(document):
            try:
                key = _read(jwk, allowed, excluded)
                _require_room(key, by_id.get(key.id, ()))
            except _UnusableKeyError as error:
                unused.append(UnusedKey(jwk.get("kid"), str(error)))
            else:
                by_id.setdefault(key.id, []).append(key)
        self.unused = tuple(unused)
        """The keys that are not used."""
        if not by_id:
            raise NoUsableKeyError(self.unused)
        keys = [key for same_id in by_id.values() for key in same_id]
        self.size = len({key.fingerprint for key in keys})
        """The number of keys that are used."""
        self._without_id = _by_algorithm(keys, make_verify, most=1)
        self._by_id = {
            key_id: _by_algorithm(same_id, make_verify)
            for key_id, same_id in by_id.items()
            if key_id is not None
        }

    def resolves(self, algorithm: str, key_id: str | None) -> bool:
        """Return whether this set determines the key of a token: a refetch is not needed."""
        if key_id is None:
            return self.find(algorithm, None) is not None
        return key_id in self._by_id

    def find(self, algorithm: str, key_id: str | None) -> Verify | None:
        """Return what verifies with the keys of an id; without an id, with the only key that fits.

        Tokens without an id are not tried with several keys.
        """
        found = self._without_id if key_id is None else self._by_id.get(key_id, {})
        return found.get(algorithm)

    def explain(self, key_id: str | None) -> str:
        """Return why no key of this set verifies a token with this key id."""
        if key_id is None:
            return "The token has no kid, and not exactly one key fits its algorithm"
        if key_id in self._by_id:
            return "The token's key is not used with the token's algorithm"
        unknown = "The token's key is not one of the identity provider's"
        return explain_unused(self.unused, key_id, unknown)


def _by_algorithm(
    keys: Iterable[_Key], make_verify: MakeVerify, most: int = MAX_KEYS_OF_AN_ID
) -> Mapping[str, Verify]:
    """Return what verifies each algorithm that at most `most` different keys have."""
    found: dict[str, dict[bytes, object]] = {}
    for key in keys:
        for algorithm in key.algorithms:
            found.setdefault(algorithm, {})[key.fingerprint] = key.public
    return {
        algorithm: make_verify(algorithm, different.values())
        for algorithm, different in found.items()
        if len(different) <= most
    }


def _members(document: object) -> list[Any]:
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("not a JWKS")  # noqa: TRY004  one type for every unusable document
    members = [jwk for jwk in keys if isinstance(jwk, dict)]
    return [{name: value for name, value in jwk.items() if value is not None} for jwk in members]


def _read(jwk: dict[str, Any], allowed: Collection[str], excluded: Collection[object]) -> _Key:
    """Return a usable key. Raises `_UnusableKeyError`."""
    if not _is_for_signatures(jwk):
        raise _UnusableKeyError("it is not for signatures")
    key_id, own = jwk.get("kid"), jwk.get("alg")
    if not isinstance(key_id, str | None):
        raise _UnusableKeyError("its kid is not a string")
    try:
        key = _KINDS[jwk["kty"]].from_jwk(_padded(jwk))
    except Exception:  # noqa: BLE001  PyJWT raises many types for malformed keys
        raise _UnusableKeyError("it is malformed or of an unknown kind") from None
    if not algorithms_of(key):
        raise _UnusableKeyError("it is private, symmetric, too weak or of another curve")
    if any(key == each for each in excluded):
        raise _UnusableKeyError("it is a key of PROOF_KEY")
    accepted = accepted_algorithms(key, allowed)
    if own:
        accepted &= accepted_algorithms(key, [str(own)])
    if not accepted:
        raise _UnusableKeyError("no algorithm of it is one of JWT_ALGORITHMS")
    fingerprint = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _Key(key_id, fingerprint, key, accepted)


def _require_room(key: _Key, keys: Iterable[_Key]) -> None:
    """Raise `_UnusableKeyError` if the id of a key already has as many other keys as it may."""
    if key.id is None:
        return
    others = {each.fingerprint for each in keys} - {key.fingerprint}
    if len(others) >= MAX_KEYS_OF_AN_ID:
        raise _UnusableKeyError(f"more than {MAX_KEYS_OF_AN_ID} keys have this kid")


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

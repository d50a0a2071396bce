"""The keys that verify tokens: those of the settings, and those of a JWKS document (RFC 7517)."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from middlewares.errors import Reason
from server.auth.claims import invalid_token
from server.auth.tokens import VerificationKey, Verify, base64url_decode, make_verify
from server.config import Settings
from server.config.keys import (
    HMAC_ALGORITHMS,
    accepted_algorithms,
    algorithms_of,
    load_public_keys,
)

NOT_ACCEPTED: Final = "The token's algorithm is not accepted here"

MAX_KEYS_OF_AN_ID: Final = 4
"""A token is tried with at most this many keys of its `kid`."""

_COORDINATE_BYTES: Final = {"P-256": 32, "P-384": 48, "P-521": 66}
_KINDS: Final[dict[str, Any]] = {
    "EC": ECAlgorithm,
    "OKP": OKPAlgorithm,
    "RSA": RSAAlgorithm,
    "oct": HMACAlgorithm,
}


class UnusedKey(NamedTuple):
    """A published key that is not used, and why."""

    key_id: object
    reason: str

    def __str__(self) -> str:
        return f"{json.dumps(self.key_id)[:80]} ({self.reason})"


class KeyProvider(Protocol):
    """Provides what verifies a token, selected by its header."""

    async def find(self, algorithm: str, key_id: str | None) -> Verify:
        """Return what verifies a token with this `alg` and `kid`.

        Raises `ApiError`: AUTH_TOKEN_INVALID when no key can have signed the token,
        AUTH_UNAVAILABLE when the keys are not available.
        """

    async def has_newer(self, algorithm: str, key_set: object) -> bool:
        """Return whether there are newer keys than `key_set`, with which a signature failed.

        Raises `ApiError` AUTH_UNAVAILABLE when that is not known in time.
        """

    @property
    def key_set(self) -> object:
        """A new object when a key may have changed, or None when no keys are available."""

    @property
    def state(self) -> str:
        """The state for `/readyz`: `ready`, `stale` or `missing`."""

    @property
    def size(self) -> int:
        """The number of keys that tokens are verified with."""

    @property
    def unused(self) -> Collection[UnusedKey]:
        """The published keys that are not used."""


@dataclass(frozen=True)
class StaticKeyProvider:
    """Keys that never change: what verifies each algorithm, and what tries the key first whose
    thumbprint is the token's `kid`.
    """

    verify: Mapping[str, Verify]
    first: Mapping[tuple[str, str | None], Verify]
    size: int
    key_set: object = field(default_factory=object)
    state: ClassVar[str] = "ready"
    unused: ClassVar[tuple[UnusedKey, ...]] = ()

    async def find(self, algorithm: str, key_id: str | None) -> Verify:
        """Return what verifies an algorithm. Raises `ApiError` AUTH_TOKEN_INVALID without a key."""
        try:
            verify = self.verify[algorithm]
        except KeyError:
            raise invalid_token(NOT_ACCEPTED, Reason.ALGORITHM) from None
        return self.first.get((algorithm, key_id), verify)

    async def has_newer(self, algorithm: str, key_set: object) -> bool:  # noqa: ARG002  interface
        """Return False."""
        return False


def make_static_provider(settings: Settings) -> StaticKeyProvider:
    """Return the provider for `JWT_SECRET`, `JWT_SECRET_PREVIOUS` and `JWT_PUBLIC_KEY`."""
    secrets = [each for each in (settings.jwt_secret, settings.jwt_secret_previous) if each]
    public_keys = load_public_keys(settings.jwt_public_key) if settings.jwt_public_key else ()
    chosen, make = settings.jwt_algorithms, verify_maker(settings)
    verify = {name: make(name, secrets) for name in HMAC_ALGORITHMS.intersection(chosen)}
    first: dict[tuple[str, str | None], Verify] = {}
    by_algorithm: dict[str, list[object]] = {}
    for key in public_keys:
        for algorithm in accepted_algorithms(key, chosen):
            by_algorithm.setdefault(algorithm, []).append(key)
    for algorithm, keys in by_algorithm.items():
        verify[algorithm] = make(algorithm, keys)
        for each in keys[1:]:  # the first one is tried first anyway
            others = [other for other in keys if other is not each]
            thumbprint = VerificationKey(algorithm, each).thumbprint()
            first[algorithm, thumbprint] = make(algorithm, [each, *others])
    return StaticKeyProvider(verify, first, len(secrets) + len(public_keys))


MakeVerify = Callable[[str, Iterable[object]], Verify]
"""Returns the function that verifies tokens of an algorithm with any of some keys."""


def verify_maker(settings: Settings) -> MakeVerify:
    """Return the function that makes what verifies tokens of the issuers and audiences."""

    def make(algorithm: str, keys: Iterable[object]) -> Verify:
        prepared = [VerificationKey(algorithm, key) for key in keys]
        return make_verify(*prepared, issuers=settings.jwt_issuer, audiences=settings.jwt_audience)

    return make


# --- keys of a JWKS document --------------------------------------------------------------------


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
    """The usable signature keys of a JWKS document, their number (`size`), and the `unused` ones.

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
        if not by_id:
            raise NoUsableKeyError(self.unused)
        keys = [key for same_id in by_id.values() for key in same_id]
        self.size = len({key.fingerprint for key in keys})
        self._without_id = _by_algorithm(keys, make_verify, most=1)
        by_id.pop(None, None)
        self._by_id = {name: _by_algorithm(same, make_verify) for name, same in by_id.items()}

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
    if not isinstance(key_id := jwk.get("kid"), str | None):
        raise _UnusableKeyError("its kid is not a string")
    try:
        key = _KINDS[jwk["kty"]].from_jwk(_padded(jwk))
    except Exception:  # noqa: BLE001  PyJWT raises many types for malformed keys
        raise _UnusableKeyError("it is malformed or of an unknown kind") from None
    if not algorithms_of(key):
        raise _UnusableKeyError("it is private, symmetric, too weak or of another curve")
    if key in excluded:
        raise _UnusableKeyError("it is a key of PROOF_KEY")
    accepted = accepted_algorithms(key, allowed)
    if own := jwk.get("alg"):
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
    if jwk["kty"] != "EC" or size is None:
        return jwk
    padded = {name: base64url_decode(jwk[name].encode()).rjust(size, b"\0") for name in ("x", "y")}
    return {**jwk, **{name: urlsafe_b64encode(value).decode() for name, value in padded.items()}}


def _is_for_signatures(jwk: dict[str, Any]) -> bool:
    uses = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(uses, list) and "verify" in uses

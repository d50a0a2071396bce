"""The usable keys of one JWKS document (RFC 7517), by key id and algorithm."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jwt

from server.auth.aiohttp_jwt_adapter import Decoder
from server.config.public_keys import algorithms_of

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
        self._by_id: dict[str | None, dict[str, Decoder]] = {}
        self._by_algorithm: dict[str, list[Decoder]] = {}
        for jwk in _members(document):
            key, algorithms = _read(jwk)
            for algorithm, decoder in make_decoders(key, algorithms & allowed).items():
                self._by_id.setdefault(jwk.get("kid"), {}).setdefault(algorithm, decoder)
                self._by_algorithm.setdefault(algorithm, []).append(decoder)
        if not self._by_algorithm:
            raise NoUsableKeyError("no usable key")

    def resolves(self, algorithm: str, key_id: str | None) -> bool:
        """Return whether this set determines the key of a token: a refetch is not needed."""
        if key_id is None:
            return self.find(algorithm, None) is not None
        return key_id in self._by_id

    def find(self, algorithm: str, key_id: str | None) -> Decoder | None:
        """Return the decoder of a key by its id; without an id, of the only key that fits."""
        if key_id is not None:
            return self._by_id.get(key_id, {}).get(algorithm)
        fitting = self._by_algorithm.get(algorithm, [])
        return fitting[0] if len(fitting) == 1 else None


def _members(document: object) -> list[Any]:
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("not a JWKS")  # noqa: TRY004  one type for every unusable document
    return [jwk for jwk in keys if isinstance(jwk, dict)]


def _read(jwk: dict[str, Any]) -> tuple[object, frozenset[str]]:
    """Return a key and the algorithms that it can verify: none for an unusable key."""
    if not _is_for_signatures(jwk) or not isinstance(jwk.get("kid"), str | None):
        return None, frozenset()
    try:
        key = jwt.PyJWK(jwk).key
    except Exception:  # noqa: BLE001  PyJWT raises many types for malformed keys
        return None, frozenset()
    own = jwk.get("alg")
    return key, algorithms_of(key) & {own} if own else algorithms_of(key)


def _is_for_signatures(jwk: dict[str, Any]) -> bool:
    uses = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(uses, list) and "verify" in uses

"""The usable keys of one JWKS document (RFC 7517), by key id and algorithm."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jwt

from middlewares.decoder import Decoder
from server.public_keys import algorithms_of

MakeDecoders = Callable[[object, Iterable[str]], Mapping[str, Decoder]]
"""Makes, for a public key and the algorithms it may be used with, a decoder for each."""


class KeySet:
    """Decoders for the signature keys of a JWKS document that may be used here.

    Left out: symmetric keys, keys for encryption, private and weak keys, algorithms not allowed,
    and whatever is no key at all. Raises ValueError when nothing is left.
    """

    def __init__(
        self, document: object, *, allowed: frozenset[str], make_decoders: MakeDecoders
    ) -> None:
        keys = document.get("keys") if isinstance(document, dict) else None
        self._by_id: dict[str | None, dict[str, Decoder]] = {}
        self._by_algorithm: dict[str, list[Decoder]] = {}
        for jwk in keys if isinstance(keys, list) else ():
            for algorithm, decoder in make_decoders(*_usable(jwk, allowed)).items():
                self._by_id.setdefault(jwk.get("kid"), {}).setdefault(algorithm, decoder)
                self._by_algorithm.setdefault(algorithm, []).append(decoder)
        if not self._by_algorithm:
            raise ValueError("no usable key")

    def knows(self, key_id: str | None) -> bool:
        """Tell whether any key here has this id."""
        return key_id is not None and key_id in self._by_id

    def find(self, algorithm: str, key_id: str | None) -> Decoder | None:
        """Find the decoder of a key by its id; without an id, of the only key that fits."""
        if key_id is not None:
            return self._by_id.get(key_id, {}).get(algorithm)
        fitting = self._by_algorithm.get(algorithm, [])
        return fitting[0] if len(fitting) == 1 else None


def _usable(jwk: Any, allowed: frozenset[str]) -> tuple[object, frozenset[str]]:
    """Read one key; give it with the algorithms that it may be used with here: often none."""
    try:
        key = jwt.PyJWK(jwk).key
        for_signatures = jwk.get("use", "sig") == "sig" and "verify" in jwk.get(
            "key_ops", ["verify"]
        )
        own = jwk.get("alg")
        algorithms = algorithms_of(key) & allowed & ({own} if own else allowed)
        kid = jwk.get("kid")
    except (jwt.PyJWTError, AttributeError, TypeError, ValueError):
        return None, frozenset()
    usable = for_signatures and (kid is None or isinstance(kid, str))
    return key, algorithms if usable else frozenset()

"""A verification key: prepared key material and its one algorithm, from PyJWT."""

from jwt.algorithms import get_default_algorithms


class VerificationKey:
    """A public key or HMAC secret, prepared once, and the one algorithm it is used with.

    Raises PyJWT's `InvalidKeyError` or ValueError for a key that does not fit the algorithm.
    """

    __slots__ = ("_key", "_verify", "algorithm")

    def __init__(self, algorithm: str, key: object) -> None:
        self.algorithm = algorithm
        implementation = get_default_algorithms()[algorithm]
        self._key = implementation.prepare_key(key)
        self._verify = implementation.verify

    def __repr__(self) -> str:
        return f"<{self.algorithm} key>"

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Return whether the signature (RFC 7515 section 5.2) verifies with this key."""
        return self._verify(signing_input, self._key, signature)

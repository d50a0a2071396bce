"""A key that signatures are checked with, prepared once, by PyJWT's algorithms."""

from typing import Self

from jwt.algorithms import get_default_algorithms


class VerificationKey(str):
    """A prepared public key or secret, and the one algorithm it is used with.

    aiohttp-jwt insists on a `str`; this is one that stands for the key, and never tells it.
    Raises PyJWT's `InvalidKeyError` or ValueError for a key unfit for its algorithm.
    """

    __slots__ = ("_key", "_verify", "algorithm")

    def __new__(cls, algorithm: str, key: object) -> Self:  # noqa: ARG004  __init__ takes it
        """Make the text that stands for the key."""
        return super().__new__(cls, f"<{algorithm} key>")

    def __init__(self, algorithm: str, key: object) -> None:
        self.algorithm = algorithm
        by = get_default_algorithms()[algorithm]
        self._key = by.prepare_key(key)
        self._verify = by.verify

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Tell whether a signature (RFC 7515 section 5.2) is this key's, of just these bytes."""
        return self._verify(signed, self._key, signature)

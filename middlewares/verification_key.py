"""A key that aiohttp-jwt and PyJWT both take, prepared once."""

from typing import Any, Self

import jwt
from jwt.algorithms import Algorithm, get_default_algorithms


class VerificationKey(str, jwt.PyJWK):
    """A prepared public key or secret: aiohttp-jwt takes it for the `str` it insists on, PyJWT
    for a key bound to one algorithm, which it need not parse for each token.
    """

    __slots__ = ()

    def __new__(cls, algorithm: str, key: object) -> Self:  # noqa: ARG004  __init__ takes it
        """Make the text that stands for the key: never the key itself."""
        return super().__new__(cls, f"<{algorithm} key>")

    def __init__(self, algorithm: str, key: object) -> None:
        self.algorithm_name = algorithm
        self.Algorithm = _prepared(get_default_algorithms()[algorithm], key)
        self.key = key


def _prepared(algorithm: Algorithm, key: object) -> Algorithm:
    """Have PyJWT prepare a key (and refuse an unfit one) now, instead of for every token."""
    prepared = algorithm.prepare_key(key)

    def prepare_key(key: Any) -> Any:  # noqa: ARG001  there is no other than the prepared one
        return prepared

    algorithm.prepare_key = prepare_key  # type: ignore[method-assign]  # an object of our own
    return algorithm

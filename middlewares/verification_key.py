"""A key that aiohttp-jwt and PyJWT both take, prepared once."""

from typing import Any, Self

import jwt
from jwt.algorithms import Algorithm, get_default_algorithms

from middlewares.claims import invalid


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
    """Have PyJWT prepare a key (and refuse an unfit one) now, not for every token.

    A signature that does not verify is refused from here, past aiohttp-jwt, which would write a
    stack trace and an answer of its own for it: a forged token must not cost more than a good one.
    """
    prepared = algorithm.prepare_key(key)
    verify = algorithm.verify

    def prepare_key(_: Any) -> Any:
        return prepared

    def check_key_length(_: Any) -> None:
        """Say nothing: the settings have judged it, and PyJWT would warn of it for every token."""

    def verify_or_refuse(msg: bytes, key: Any, sig: bytes) -> bool:
        if not verify(msg, key, sig):
            raise invalid("The token's signature does not verify")
        return True

    algorithm.prepare_key = prepare_key  # type: ignore[method-assign,assignment]  # our own object
    algorithm.check_key_length = check_key_length  # type: ignore[method-assign,assignment]
    algorithm.verify = verify_or_refuse  # type: ignore[method-assign]
    return algorithm

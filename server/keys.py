"""The keys that tokens are checked with, when they stand in the configuration."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from middlewares.claims import invalid
from middlewares.decoder import Decoder, make_decoder
from server.public_keys import algorithms_of, load_public_key
from server.settings import Settings


class Keys(Protocol):
    """Finds the decoder for a token by what its header says."""

    async def decoder(self, algorithm: str, key_id: str | None) -> Decoder:
        """Give the decoder for a token.

        Raises `ApiError`: AUTH_TOKEN_INVALID when no key here can have signed it, AUTH_UNAVAILABLE
        when the keys cannot be had.
        """

    @property
    def in_use(self) -> object:
        """Give what stands for the keys as they are: another object once one may have changed; None
        when there are none that may be used.
        """

    @property
    def state(self) -> str:
        """Tell for `/readyz` how the keys are: `ready`, `stale` or `missing`."""


class StaticKeys:
    """One secret or public key, and the algorithms it is used with; a `kid` says nothing here."""

    state = "ready"

    def __init__(self, decoders: Mapping[str, Decoder]) -> None:
        self._decoders = decoders
        self.in_use = object()

    async def decoder(self, algorithm: str, key_id: str | None) -> Decoder:  # noqa: ARG002  Keys
        """Give the decoder of the algorithm. Raises `ApiError` AUTH_TOKEN_INVALID for any other."""
        try:
            return self._decoders[algorithm]
        except KeyError:
            raise invalid("The token's algorithm is not accepted here") from None


def decoders_for(key: object, algorithms: Iterable[str], settings: Settings) -> dict[str, Decoder]:
    """Make a decoder for each algorithm that the key is used with."""
    return {
        algorithm: make_decoder(
            algorithm,
            key,
            issuer=settings.jwt_issuer or None,
            audience=settings.jwt_audience or None,
        )
        for algorithm in algorithms
    }


def static_keys(settings: Settings) -> StaticKeys:
    """Make the keys of a configuration that holds a secret or a public key."""
    if settings.jwt_secret:
        return StaticKeys(decoders_for(settings.jwt_secret, settings.jwt_algorithms, settings))
    key = load_public_key(settings.jwt_public_key)
    usable = algorithms_of(key).intersection(settings.jwt_algorithms)
    return StaticKeys(decoders_for(key, usable, settings))

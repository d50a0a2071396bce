"""The interface of a key provider."""

from typing import Protocol

from server.auth.aiohttp_jwt_adapter import Decoder


class KeyProvider(Protocol):
    """Provides the decoder for a token, selected by its header."""

    async def decoder(self, algorithm: str, key_id: str | None) -> Decoder:
        """Return the decoder for a token with this `alg` and `kid`.

        Raises `ApiError`: AUTH_TOKEN_INVALID when no key can have signed the token,
        AUTH_UNAVAILABLE when the keys are not available.
        """

    @property
    def generation(self) -> object:
        """The identity of the current keys: a new object when a key may have changed, or None when
        no keys are available.
        """

    @property
    def state(self) -> str:
        """The state for `/readyz`: `ready`, `stale` or `missing`."""

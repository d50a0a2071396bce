"""Keys from the configuration: HMAC secrets or public keys."""

from collections.abc import Mapping

from middlewares.api_errors import Reason
from server.auth.aiohttp_jwt_adapter import Decoder
from server.auth.claims import invalid_token


class StaticKeyProvider:
    """Keys that never change: one decoder for each algorithm. A `kid` has no meaning here."""

    state = "ready"

    def __init__(self, decoders: Mapping[str, Decoder]) -> None:
        self._decoders = decoders
        self.generation = object()

    async def decoder(self, algorithm: str, key_id: str | None) -> Decoder:  # noqa: ARG002  interface
        """Return the decoder of an algorithm. Raises `ApiError` AUTH_TOKEN_INVALID without one."""
        try:
            return self._decoders[algorithm]
        except KeyError:
            raise invalid_token(
                "The token's algorithm is not accepted here", Reason.ALGORITHM
            ) from None

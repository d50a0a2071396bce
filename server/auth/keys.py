"""Key providers: they find the key that verifies a token, as the settings describe."""

import logging
from collections.abc import Iterable, Mapping
from functools import cache, partial
from typing import Protocol

from middlewares.errors import Reason
from server.auth.aiohttp_jwt_adapter import Decoder, make_decoder
from server.auth.claims import invalid_token
from server.auth.jwk_set import JwkSet, MakeDecoders
from server.auth.jwks import JwksProvider
from server.auth.tokens import VerificationKey, make_decode
from server.config import Settings
from server.config.keys import accepted_algorithms, load_proof_keys, load_public_keys

log = logging.getLogger(__name__)


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


def make_decoders(key: object, algorithms: Iterable[str], settings: Settings) -> dict[str, Decoder]:
    """Return a decoder for each algorithm that the key is used with."""
    return {algorithm: _decoder(algorithm, [key], settings) for algorithm in algorithms}


def make_static_provider(settings: Settings) -> StaticKeyProvider:
    """Return the provider for `JWT_SECRET` and `JWT_SECRET_PREVIOUS`, or for `JWT_PUBLIC_KEY`."""
    return StaticKeyProvider(
        {
            algorithm: _decoder(algorithm, keys, settings)
            for algorithm, keys in _configured_keys(settings).items()
        }
    )


def _configured_keys(settings: Settings) -> dict[str, list[object]]:
    """Return the keys of the configuration by the algorithms that they verify."""
    secrets: list[object] = [
        each for each in (settings.jwt_secret, settings.jwt_secret_previous) if each
    ]
    if settings.jwt_secret:
        return dict.fromkeys(settings.jwt_algorithms, secrets)
    found: dict[str, list[object]] = {}
    for key in load_public_keys(settings.jwt_public_key):
        for algorithm in accepted_algorithms(key, settings.jwt_algorithms):
            found.setdefault(algorithm, []).append(key)
    return found


def _decoder(algorithm: str, keys: Iterable[object], settings: Settings) -> Decoder:
    decode = make_decode(
        *(VerificationKey(algorithm, key) for key in keys),
        issuers=settings.jwt_issuer,
        audiences=settings.jwt_audience,
    )
    return make_decoder(decode)


def make_jwks_provider(settings: Settings) -> JwksProvider:
    """Return the provider for `JWT_JWKS_URL`; its `run` keeps the keys fresh."""
    make_allowed_decoders = without_proof_keys(partial(make_decoders, settings=settings), settings)

    def make_key_set(document: object) -> JwkSet:
        allowed = frozenset(settings.jwt_algorithms)
        return JwkSet(document, allowed=allowed, make_decoders=make_allowed_decoders)

    return JwksProvider(
        url=settings.jwt_jwks_url,
        algorithms=settings.jwt_algorithms,
        make_key_set=make_key_set,
        cache_seconds=settings.jwks_cache_seconds,
        stale_seconds=settings.jwks_stale_seconds,
        cooldown_seconds=settings.jwks_cooldown_seconds,
        fetch_timeout=settings.jwks_timeout_seconds,
        wait=settings.session_budget_seconds / 2,
    )


def without_proof_keys(make: MakeDecoders, settings: Settings) -> MakeDecoders:
    """Return `make` without the keys of `PROOF_KEY`: patients' tokens are not verified with them.

    The log reports such a key once, not at every refresh.
    """
    if not settings.proof_key:
        return make
    proof_keys = [key.public_key() for key in load_proof_keys(settings.proof_key)]

    @cache
    def warn() -> None:
        log.warning("JWT_JWKS_URL has a key of PROOF_KEY: the key is ignored")

    def make_without(key: object, algorithms: Iterable[str]) -> Mapping[str, Decoder]:
        if any(key == proof_key for proof_key in proof_keys):
            warn()
            return {}
        return make(key, algorithms)

    return make_without

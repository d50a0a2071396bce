"""Builds the key provider that the settings describe."""

import logging
from collections.abc import Iterable, Mapping
from functools import cache, partial

from server.auth.aiohttp_jwt_adapter import Decoder, make_decoder
from server.auth.jwt_decode import make_decode
from server.auth.keys.jwk_set import JwkSet, MakeDecoders
from server.auth.keys.jwks_provider import JwksProvider
from server.auth.keys.static import StaticKeyProvider
from server.auth.verification_key import VerificationKey
from server.config import Settings
from server.config.proof_key import load_proof_keys
from server.config.public_keys import algorithms_of, load_public_keys

log = logging.getLogger(__name__)


def make_decoders(key: object, algorithms: Iterable[str], settings: Settings) -> dict[str, Decoder]:
    """Return a decoder for each algorithm that the key is used with."""
    return {algorithm: _decoder(algorithm, [key], settings) for algorithm in algorithms}


def make_static_provider(settings: Settings) -> StaticKeyProvider:
    """Return the provider for `JWT_SECRET` and `JWT_SECRET_PREVIOUS`, or for `JWT_PUBLIC_KEY`."""
    return StaticKeyProvider(
        {
            algorithm: _decoder(algorithm, keys, settings)
            for algorithm in settings.jwt_algorithms
            if (keys := _configured_keys(algorithm, settings))
        }
    )


def _configured_keys(algorithm: str, settings: Settings) -> list[object]:
    """Return the keys of the configuration that verify this algorithm."""
    if settings.jwt_secret:
        return [each for each in (settings.jwt_secret, settings.jwt_secret_previous) if each]
    public_keys = load_public_keys(settings.jwt_public_key)
    return [key for key in public_keys if algorithm in algorithms_of(key)]


def _decoder(algorithm: str, keys: Iterable[object], settings: Settings) -> Decoder:
    decode = make_decode(
        *(VerificationKey(algorithm, key) for key in keys),
        issuer=settings.jwt_issuer,
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
        timeout=min(2.0, settings.session_budget_seconds / 2),
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

"""Key providers: they find the key that verifies a token, as the settings describe."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from middlewares.errors import Reason
from server.auth.claims import invalid_token
from server.auth.jwk_set import JwkSet, UnusedKey
from server.auth.jwks import JwksProvider
from server.auth.tokens import VerificationKey, Verify, make_verify
from server.config import Settings
from server.config.keys import (
    HMAC_ALGORITHMS,
    PublicKey,
    accepted_algorithms,
    load_proof_keys,
    load_public_keys,
)


class KeyProvider(Protocol):
    """Provides what verifies a token, selected by its header."""

    async def find(self, algorithm: str, key_id: str | None) -> Verify:
        """Return what verifies a token with this `alg` and `kid`.

        Raises `ApiError`: AUTH_TOKEN_INVALID when no key can have signed the token,
        AUTH_UNAVAILABLE when the keys are not available.
        """

    async def has_newer(self, algorithm: str, key_set: object) -> bool:
        """Return whether there are newer keys than `key_set`, with which a signature failed.

        Raises `ApiError` AUTH_UNAVAILABLE when that is not known in time.
        """

    @property
    def key_set(self) -> object:
        """The identity of the current keys: a new object when a key may have changed, or None when
        no keys are available.
        """

    @property
    def state(self) -> str:
        """The state for `/readyz`: `ready`, `stale` or `missing`."""

    @property
    def size(self) -> int:
        """The number of keys that tokens are verified with."""

    @property
    def unused(self) -> Collection[UnusedKey]:
        """The published keys that are not used."""


class StaticKeyProvider:
    """Keys that never change. A `kid` that is a key's thumbprint says which key is tried first.

    `verify` has what verifies each algorithm; `first` tries the key with a thumbprint first.
    """

    state = "ready"
    unused = ()

    def __init__(
        self,
        verify: Mapping[str, Verify],
        first: Mapping[tuple[str, str | None], Verify],
        size: int,
    ) -> None:
        self._verify = verify
        self._first = first
        self.key_set = object()
        self.size = size

    async def find(self, algorithm: str, key_id: str | None) -> Verify:
        """Return what verifies an algorithm. Raises `ApiError` AUTH_TOKEN_INVALID without a key."""
        try:
            verify = self._verify[algorithm]
        except KeyError:
            details = "The token's algorithm is not accepted here"
            raise invalid_token(details, Reason.ALGORITHM) from None
        return self._first.get((algorithm, key_id), verify) if self._first else verify

    async def has_newer(self, algorithm: str, key_set: object) -> bool:  # noqa: ARG002  interface
        """Return False."""
        return False


def make_static_provider(settings: Settings) -> StaticKeyProvider:
    """Return the provider for `JWT_SECRET`, `JWT_SECRET_PREVIOUS` and `JWT_PUBLIC_KEY`."""
    verify = _verify_secrets(settings)
    first: dict[tuple[str, str | None], Verify] = {}
    public_keys = load_public_keys(settings.jwt_public_key) if settings.jwt_public_key else ()
    for algorithm, keys in _by_algorithm(public_keys, settings).items():
        verify[algorithm] = _verify(keys, settings)
        for key in keys[1:]:  # the first one is tried first anyway
            others = [other for other in keys if other is not key]
            first[algorithm, key.thumbprint()] = _verify([key, *others], settings)
    return StaticKeyProvider(verify, first, len(_secrets(settings)) + len(public_keys))


def _secrets(settings: Settings) -> list[bytes]:
    return [each for each in (settings.jwt_secret, settings.jwt_secret_previous) if each]


def _verify_secrets(settings: Settings) -> dict[str, Verify]:
    """Return what verifies each HMAC algorithm: the secrets, and nothing else."""
    secrets = _secrets(settings)
    return {
        algorithm: _verify([VerificationKey(algorithm, each) for each in secrets], settings)
        for algorithm in HMAC_ALGORITHMS.intersection(settings.jwt_algorithms)
    }


def _by_algorithm(
    keys: Iterable[PublicKey], settings: Settings
) -> dict[str, list[VerificationKey]]:
    """Return public keys by the algorithms that they verify."""
    found: dict[str, list[VerificationKey]] = {}
    for key in keys:
        for algorithm in accepted_algorithms(key, settings.jwt_algorithms):
            found.setdefault(algorithm, []).append(VerificationKey(algorithm, key))
    return found


def _verify(keys: Iterable[VerificationKey], settings: Settings) -> Verify:
    return make_verify(*keys, issuers=settings.jwt_issuer, audiences=settings.jwt_audience)


def make_jwks_provider(settings: Settings) -> JwksProvider:
    """Return the provider for `JWT_JWKS_URL`, and `JWT_SECRET` beside it.

    Its `run` keeps the keys fresh. Patients' tokens are not verified with keys of `PROOF_KEY`.
    """
    proof_keys = load_proof_keys(settings.proof_key) if settings.proof_key else []

    def verify_with(algorithm: str, keys: Iterable[object]) -> Verify:
        return _verify([VerificationKey(algorithm, key) for key in keys], settings)

    def make_key_set(document: object) -> JwkSet:
        return JwkSet(
            document,
            allowed=settings.jwt_algorithms,
            make_verify=verify_with,
            excluded=[key.public_key() for key in proof_keys],
        )

    return JwksProvider(
        url=settings.jwt_jwks_url,
        algorithms=settings.jwt_algorithms,
        secrets=_verify_secrets(settings),
        secret_count=len(_secrets(settings)),
        make_key_set=make_key_set,
        cache_seconds=settings.jwks_cache_seconds,
        stale_seconds=settings.jwks_stale_seconds,
        cooldown_seconds=settings.jwks_cooldown_seconds,
        fetch_timeout=settings.jwks_timeout_seconds,
        wait=settings.session_budget_seconds / 2,
    )

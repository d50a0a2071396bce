"""The authenticator: from a token to its principal, by header, key, signature and claims."""

from collections import OrderedDict
from hashlib import sha256
from typing import Final

from middlewares.authentication import Authenticate
from middlewares.context import Clock, Principal
from server.auth.claims import ClaimRules
from server.auth.keys import KeyProvider
from server.auth.tokens import check_type, read_header

MAX_CACHED_TOKENS: Final = 8192
"""The capacity of the cache; beyond it, the token that was verified first is evicted."""

MAX_CACHED_LENGTH: Final = 2048
"""A longer token is verified on every request, because its principal may take much memory."""


class VerifiedTokenCache:
    """Principals of verified tokens, by the SHA-256 of the token.

    The entries belong to one generation of keys: a new generation clears the cache.
    """

    def __init__(self) -> None:
        self._principals: OrderedDict[bytes, Principal] = OrderedDict()
        self._generation: object = None

    def get(self, digest: bytes, generation: object) -> Principal | None:
        """Return the principal of a token that keys of this generation verified."""
        return self._principals.get(digest) if generation is self._generation else None

    def add(self, digest: bytes, principal: Principal, generation: object) -> None:
        """Add a principal; discard those of another generation."""
        if generation is not self._generation:
            self._principals.clear()
            self._generation = generation
        self._principals[digest] = principal
        if len(self._principals) > MAX_CACHED_TOKENS:
            self._principals.popitem(last=False)


def make_authenticator(
    keys: KeyProvider, rules: ClaimRules, clock: Clock, required_type: str = ""
) -> Authenticate:
    """Return the function that authenticates tokens.

    The signature of a token is verified once for each generation of keys. Its dates are checked on
    every request. Revocation, role, scope and rate limit are checked by other middlewares.
    """
    cache = VerifiedTokenCache()

    async def verify_uncached(token: str, digest: bytes) -> Principal:
        header = read_header(token.partition(".")[0])
        check_type(header, required_type)
        decode = await keys.decoder(header.algorithm, header.key_id)
        generation = keys.generation  # no await since `decoder`: the two belong together
        principal = rules.principal_from(await decode(token))
        if generation is not None and len(token) <= MAX_CACHED_LENGTH:
            cache.add(digest, principal, generation)
        return principal

    async def authenticate(token: str) -> Principal:
        digest = sha256(token.encode()).digest()
        principal = cache.get(digest, keys.generation) or await verify_uncached(token, digest)
        rules.check_dates(principal, clock())
        return principal

    return authenticate

"""The keys of an identity provider: a JWKS (RFC 7517) that is refreshed in the background."""

import asyncio
from collections.abc import Callable, Collection
from math import ceil
from time import monotonic

from aiohttp import ClientSession

from middlewares.api_errors import ApiError, ErrorCode, Reason
from server.auth.aiohttp_jwt_adapter import Decoder
from server.auth.claims import invalid_token
from server.auth.keys.jwk_set import JwkSet
from server.auth.keys.jwks_refresher import JwksRefresher


class JwksProvider:
    """Provides the keys of a JWKS address.

    The keys are fetched at once, then every `cache_seconds`. While the address fails, the last keys
    are used for up to `stale_seconds`. An unknown key id triggers a refetch, at most one attempt in
    `cooldown_seconds`. A request waits for at most `timeout` seconds, the limit of one fetch.
    """

    def __init__(
        self,
        *,
        url: str,
        algorithms: Collection[str],
        make_key_set: Callable[[object], JwkSet],
        cache_seconds: float,
        stale_seconds: float,
        cooldown_seconds: float,
        timeout: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._algorithms = frozenset(algorithms)
        self._usable_seconds = max(cache_seconds, stale_seconds)
        self._cooldown_seconds = cooldown_seconds
        self._timeout = timeout
        self._clock = clock
        self._next_refetch_at = clock()
        self._refresher = JwksRefresher(
            url=url,
            make_key_set=make_key_set,
            cache_seconds=cache_seconds,
            timeout=timeout,
            clock=clock,
        )

    @property
    def generation(self) -> JwkSet | None:
        """The current keys, or None when there are none or they are too old."""
        age = self._refresher.age
        return None if age is None or age > self._usable_seconds else self._refresher.key_set

    @property
    def age(self) -> float | None:
        """Seconds since the keys were last fetched, or None without keys."""
        return self._refresher.age

    @property
    def state(self) -> str:
        """The state for `/readyz`: `ready`, `stale` (used while the address fails) or `missing`."""
        if self.generation is None:
            return "missing"
        return "stale" if self._refresher.failures else "ready"

    async def run(self, session: ClientSession) -> None:
        """Refresh the keys until cancelled."""
        await self._refresher.run(session)

    async def fetch_once(self, session: ClientSession) -> None:
        """Fetch the keys now; `state` has the result."""
        await self._refresher.fetch_once(session)

    async def decoder(self, algorithm: str, key_id: str | None) -> Decoder:
        """Return the decoder for a token; see `KeyProvider`."""
        if algorithm not in self._algorithms:
            raise invalid_token("The token's algorithm is not accepted here", Reason.ALGORITHM)
        key_set = self.generation
        if key_set is None or not key_set.resolves(algorithm, key_id):
            key_set = await self._refresh_for(algorithm, key_id)
        found = key_set.find(algorithm, key_id)
        if found is None:
            raise invalid_token("The token's key is not one of the identity provider's", Reason.KEY)
        return found

    async def _refresh_for(self, algorithm: str, key_id: str | None) -> JwkSet:
        """Wait for keys that resolve the token; return the latest keys when none do."""
        try:
            async with asyncio.timeout(self._timeout):
                key_set = await self._resolve(algorithm, key_id)
        except TimeoutError:
            raise _keys_unavailable(1) from None
        if self._refresher.failures and not key_set.resolves(algorithm, key_id):
            # Not a 401, which could log the patient out.
            raise _keys_unavailable(self._next_refetch_at - self._clock())
        return key_set

    async def _resolve(self, algorithm: str, key_id: str | None) -> JwkSet:
        key_set = await self._initial()
        for newer_keys in (self._await_inflight, self._refetch):
            if not key_set.resolves(algorithm, key_id):
                key_set = await newer_keys()
        return key_set

    async def _initial(self) -> JwkSet:
        """Return the keys; wait for the first fetch unless a fetch has already failed."""
        if self.generation is None and not self._refresher.failures:
            await self._refresher.next_fetch()
        key_set = self.generation
        if key_set is None:
            raise _keys_unavailable(self._refresher.delay())
        return key_set

    async def _await_inflight(self) -> JwkSet:
        """Return the keys after the fetch in flight, if there is one."""
        if self._refresher.is_in_flight:
            await self._refresher.next_fetch()
        return await self._initial()

    async def _refetch(self) -> JwkSet:
        """Return refetched keys, unless the cooldown forbids a refetch."""
        if self._clock() >= self._next_refetch_at:
            self._next_refetch_at = self._clock() + self._cooldown_seconds
            await self._refresher.next_fetch()
        return await self._initial()


def _keys_unavailable(seconds: float) -> ApiError:
    details = "The identity provider's keys cannot be reached; try again"
    return ApiError(ErrorCode.AUTH_UNAVAILABLE, details, retry_after=max(1, ceil(seconds)))

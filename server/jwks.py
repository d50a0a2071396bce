"""Keys of an identity provider that rotates them: a JWKS (RFC 7517), fetched and kept fresh."""

import asyncio
from collections.abc import Callable, Collection
from math import ceil
from time import monotonic

from aiohttp import ClientSession

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.claims import invalid
from middlewares.decoder import Decoder
from server.jwks_fetcher import JwksFetcher
from server.key_set import KeySet


class JwksKeys:
    """Keys are fetched at once, then every `cache_seconds`; while the address fails, the last ones
    serve up to `stale_seconds`. An unknown key id has them fetched anew, at most once in
    `cooldown_seconds`, counted on attempts. No request waits longer than `timeout` seconds, which
    is as long as one fetch may take.
    """

    def __init__(
        self,
        *,
        url: str,
        algorithms: Collection[str],
        make_key_set: Callable[[object], KeySet],
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
        self._may_look_again_at = clock()
        self._fetcher = JwksFetcher(
            url=url,
            make_key_set=make_key_set,
            cache_seconds=cache_seconds,
            timeout=timeout,
            clock=clock,
        )

    @property
    def in_use(self) -> KeySet | None:
        """Give the keys; None when there are none, or too old ones."""
        age = self._fetcher.age
        return None if age is None or age > self._usable_seconds else self._fetcher.key_set

    @property
    def age(self) -> float | None:
        """Seconds since the keys were last fetched; None when there are none."""
        return self._fetcher.age

    @property
    def state(self) -> str:
        """Tell for `/readyz`: `ready`, `stale` (serving while the address fails) or `missing`."""
        if self.in_use is None:
            return "missing"
        return "stale" if self._fetcher.failures else "ready"

    async def run(self, session: ClientSession) -> None:
        """Keep the keys fresh until cancelled."""
        await self._fetcher.run(session)

    async def fetch_once(self, session: ClientSession) -> None:
        """Fetch the keys now; `state` tells what came of it."""
        await self._fetcher.fetch_once(session)

    async def decoder(self, algorithm: str, key_id: str | None) -> Decoder:
        """Give the decoder for a token; see `Keys`."""
        if algorithm not in self._algorithms:
            raise invalid("The token's algorithm is not accepted here")
        key_set = self.in_use
        if key_set is None or not key_set.covers(algorithm, key_id):
            key_set = await self._better(algorithm, key_id)
        found = key_set.find(algorithm, key_id)
        if found is None:
            raise invalid("The token's key is not one of the identity provider's")
        return found

    async def _better(self, algorithm: str, key_id: str | None) -> KeySet:
        """Wait for keys that cover the token; give the best there are when none do."""
        try:
            async with asyncio.timeout(self._timeout):
                key_set = await self._search(algorithm, key_id)
        except TimeoutError:
            raise _unavailable(1) from None
        if self._fetcher.failures and not key_set.covers(algorithm, key_id):
            raise _unavailable(self._may_look_again_at - self._clock())  # 401 might log them out
        return key_set

    async def _search(self, algorithm: str, key_id: str | None) -> KeySet:
        key_set = await self._first()
        if not key_set.covers(algorithm, key_id):
            key_set = await self._joined()
        if not key_set.covers(algorithm, key_id):
            key_set = await self._looked_up_again()
        return key_set

    async def _first(self) -> KeySet:
        """Give the keys; wait for the first ones, but for nobody who failed already."""
        if self.in_use is None and not self._fetcher.failures:
            await self._fetcher.ended()
        key_set = self.in_use
        if key_set is None:
            raise _unavailable(self._fetcher.pause())
        return key_set

    async def _joined(self) -> KeySet:
        """Give the keys once the fetch that is under way, if there is one, has ended."""
        if self._fetcher.is_under_way:
            await self._fetcher.ended()
        return await self._first()

    async def _looked_up_again(self) -> KeySet:
        """Give keys fetched anew, unless that was tried just now."""
        if self._clock() >= self._may_look_again_at:
            self._may_look_again_at = self._clock() + self._cooldown_seconds
            await self._fetcher.ended()
        return await self._first()


def _unavailable(seconds: float) -> ApiError:
    details = "The identity provider's keys cannot be reached; try again"
    return ApiError(ErrorCode.AUTH_UNAVAILABLE, details, retry_after=max(1, ceil(seconds)))

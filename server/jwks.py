"""Keys of an identity provider that rotates them: a JWKS (RFC 7517), fetched and kept fresh."""

import asyncio
import logging
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Final

from aiohttp import ClientSession

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.claims import invalid
from middlewares.decoder import Decoder
from server.download import CannotDownload, download_json
from server.key_set import KeySet

log = logging.getLogger(__name__)

_LONGEST_RETRY_SECONDS: Final = 10.0


class JwksKeys:
    """Fetches the keys at once, then every `cache_seconds`; while the address fails, the last ones
    serve up to `stale_seconds`. An unknown key id has them fetched anew, at most once in
    `cooldown_seconds`. One fetch runs at a time, and takes `timeout` seconds at most.
    """

    def __init__(
        self,
        *,
        url: str,
        make_key_set: Callable[[object], KeySet],
        cache_seconds: float,
        stale_seconds: float,
        cooldown_seconds: float,
        timeout: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._url = url
        self._make_key_set = make_key_set
        self._cache_seconds = cache_seconds
        self._stale_seconds = stale_seconds
        self._cooldown_seconds = cooldown_seconds
        self._timeout = timeout
        self._clock = clock
        self._key_set: KeySet | None = None
        self._fetched_at = 0.0
        self._failures = 0
        self._may_look_again_at = -float("inf")
        self._session: asyncio.Future[ClientSession] | None = None
        self._fetching: asyncio.Task[None] | None = None

    @property
    def age(self) -> float | None:
        """Seconds since the keys were last fetched; None when there are none."""
        return None if self._key_set is None else self._clock() - self._fetched_at

    @property
    def state(self) -> str:
        """Tell for `/readyz`: `ready`, `stale` (serving while the address fails) or `missing`."""
        if self._usable() is None:
            return "missing"
        return "stale" if self._failures else "ready"

    async def decoder(self, algorithm: str, key_id: str | None) -> Decoder:
        """Give the decoder for a token; see `Keys`."""
        key_set = self._usable() or await self._first()
        found = key_set.find(algorithm, key_id)
        if found is None and not key_set.knows(key_id):
            found = (await self._look_again(key_set)).find(algorithm, key_id)
        if found is None:
            raise invalid("The token's key or algorithm is not one of the identity provider's")
        return found

    async def run(self, session: ClientSession) -> None:
        """Keep the keys fresh until cancelled."""
        while True:
            await self.fetch_once(session)
            await asyncio.sleep(self._pause())

    async def fetch_once(self, session: ClientSession) -> None:
        """Fetch the keys now; `state` tells what came of it."""
        if not self._opened().done():
            self._opened().set_result(session)
        await self._refresh()

    def _pause(self) -> float:
        if not self._failures:
            return self._cache_seconds
        return min(0.5 * 2.0 ** min(self._failures - 1, 16), _LONGEST_RETRY_SECONDS)

    def _opened(self) -> "asyncio.Future[ClientSession]":
        if self._session is None:
            self._session = asyncio.get_running_loop().create_future()
        return self._session

    def _usable(self) -> KeySet | None:
        if self._key_set is None or self._clock() - self._fetched_at > self._stale_seconds:
            return None
        return self._key_set

    async def _first(self) -> KeySet:
        """Wait for a fetch under way, or for the very first one; no keys then are no answer."""
        if self._is_fetching() or not self._failures:
            await self._refresh()
        key_set = self._usable()
        if key_set is None:
            raise _unavailable(self._pause())
        return key_set

    async def _look_again(self, seen: KeySet) -> KeySet:
        """Fetch anew for an unknown key id, unless that was tried just now."""
        now = self._clock()
        if self._is_fetching():
            await self._refresh()
        elif now >= self._may_look_again_at:
            self._may_look_again_at = now + self._cooldown_seconds
            await self._refresh()
        if self._failures:  # whose key it is cannot be told: a refusal would log patients out
            raise _unavailable(self._may_look_again_at - self._clock())
        return self._key_set or seen

    def _is_fetching(self) -> bool:
        return self._fetching is not None and not self._fetching.done()

    async def _refresh(self) -> None:
        """Fetch, or join the fetch that is under way; who waits may leave without ending it."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch())
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            document = await download_json(await self._opened(), self._url, self._timeout)
            self._key_set = self._make_key_set(document)
        except (CannotDownload, ValueError) as error:
            self._failures += 1
            if self._failures == 1:
                log.error("the JWKS cannot be had: %s", error)
            return
        if self._failures:
            log.info("the JWKS can be had again")
        self._fetched_at = self._clock()
        self._failures = 0


def _unavailable(seconds: float) -> ApiError:
    details = "The identity provider's keys cannot be reached; try again"
    return ApiError(ErrorCode.AUTH_UNAVAILABLE, details, retry_after=max(1, ceil(seconds)))

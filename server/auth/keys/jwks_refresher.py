"""Fetches a JWKS in the background: at once, then when it is due or requested."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from aiohttp import ClientSession

from server.auth.keys.fetch_json import FetchError, fetch_json
from server.auth.keys.jwk_set import JwkSet, NoUsableKeyError
from server.backoff import retry_delay

log = logging.getLogger(__name__)

_LONGEST_RETRY_SECONDS: Final = 10.0
_DOCUMENTS_TO_WITHDRAW: Final = 3


class JwksRefresher:
    """Keeps the keys of the last successful fetch.

    Only `run` fetches. Therefore at most one fetch is in flight, and a cancelled request does not
    cancel it. Keys are fresh for `cache_seconds`; one fetch takes at most `timeout` seconds.

    A JWKS without a usable key is a failed fetch. From the third in a row on, if the first was at
    least `cache_seconds` ago, the provider has withdrawn its keys: `key_set` becomes None. Other
    failures in between do not count and do not interrupt the row.
    """

    def __init__(
        self,
        *,
        url: str,
        make_key_set: Callable[[object], JwkSet],
        cache_seconds: float,
        timeout: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._url = url
        self._make_key_set = make_key_set
        self._cache_seconds = cache_seconds
        self._timeout = timeout
        self._clock = clock
        self._fetched_at = 0.0
        self._wanted = asyncio.Event()  # set while a fetch is requested or in flight
        self._ended = asyncio.Event()  # set when that fetch ends; the next fetch has a new event
        self.key_set: JwkSet | None = None
        self.failures = 0
        """The number of failed fetches since the last success."""
        self._retry_delay = 0.0
        self._keyless_fetches = 0  # since the last success
        self._keyless_since = 0.0

    @property
    def age(self) -> float | None:
        """Seconds since the keys were fetched, or None without keys."""
        return None if self.key_set is None else self._clock() - self._fetched_at

    @property
    def is_in_flight(self) -> bool:
        """Whether a fetch is in flight or requested."""
        return self._wanted.is_set()

    async def next_fetch(self) -> None:
        """Wait until the fetch in flight, or a new one, has ended."""
        self._wanted.set()
        await self._ended.wait()

    def delay(self) -> float:
        """Return the seconds between the end of a fetch and the next regular one."""
        fresh = 0.0 if self.age is None else max(0.0, self._cache_seconds - self.age)
        return max(fresh, self._retry_delay)

    async def run(self, session: ClientSession) -> None:
        """Fetch until cancelled."""
        while True:
            await self.fetch_once(session)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.delay()):
                    await self._wanted.wait()

    async def fetch_once(self, session: ClientSession) -> None:
        """Fetch now; `failures` has the result."""
        self._wanted.set()
        try:
            document = await fetch_json(session, self._url, self._timeout)
            self._accept(self._make_key_set(document))
        except (FetchError, ValueError) as error:
            self._record_failure(error)
            if isinstance(error, NoUsableKeyError):
                self._record_keyless_fetch()
        finally:
            self._wanted.clear()
            self._ended.set()
            self._ended = asyncio.Event()

    def _accept(self, key_set: JwkSet) -> None:
        if self.failures:
            log.info("the JWKS is available again")
        self.key_set = key_set
        self.failures = self._keyless_fetches = 0
        self._retry_delay = 0.0
        self._fetched_at = self._clock()

    def _record_failure(self, error: Exception) -> None:
        if not self.failures:
            log.error("the JWKS is not available: %s", error)
        self.failures += 1
        self._retry_delay = retry_delay(self.failures, longest=_LONGEST_RETRY_SECONDS)

    def _record_keyless_fetch(self) -> None:
        now = self._clock()
        if not self._keyless_fetches:
            self._keyless_since = now
        self._keyless_fetches += 1
        lasts = now - self._keyless_since >= self._cache_seconds
        if self.key_set is not None and lasts and self._keyless_fetches >= _DOCUMENTS_TO_WITHDRAW:
            self.key_set = None
            log.error("the JWKS still has no usable key: tokens are answered with 503")

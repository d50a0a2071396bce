"""Fetches a JWKS in the background: at once, then whenever it is due or somebody asks for it."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from aiohttp import ClientSession

from server.download import CannotDownload, download_json
from server.key_set import KeySet

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS: Final = 0.5
_LONGEST_RETRY_SECONDS: Final = 10.0


class JwksFetcher:
    """Holds the keys last fetched. Only `run` fetches: so one fetch is under way at a time, and no
    request that leaves can end it.

    Keys are fresh for `cache_seconds`; one fetch takes `timeout` seconds at most.
    """

    def __init__(
        self,
        *,
        url: str,
        make_key_set: Callable[[object], KeySet],
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
        self._wanted = asyncio.Event()  # set while a fetch is asked for or under way
        self._ended = asyncio.Event()  # set when that fetch has ended; the next has its own
        self.key_set: KeySet | None = None
        self.failures = 0
        """How many fetches failed since one succeeded."""

    @property
    def age(self) -> float | None:
        """Seconds since the keys were fetched; None when there are none."""
        return None if self.key_set is None else self._clock() - self._fetched_at

    @property
    def is_under_way(self) -> bool:
        """Tell whether a fetch is being made, or about to be."""
        return self._wanted.is_set()

    async def ended(self) -> None:
        """Wait for the end of the fetch under way, or of one that begins now."""
        self._wanted.set()
        await self._ended.wait()

    def pause(self) -> float:
        """Tell for how many seconds to leave the address alone: none once the keys are due."""
        fresh = 0.0 if self.age is None else max(0.0, self._cache_seconds - self.age)
        if not self.failures:
            return fresh
        backoff = _FIRST_RETRY_SECONDS * 2.0 ** min(self.failures - 1, 16)
        return max(fresh, min(backoff, _LONGEST_RETRY_SECONDS))

    async def run(self, session: ClientSession) -> None:
        """Fetch until cancelled."""
        while True:
            await self.fetch_once(session)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.pause()):
                    await self._wanted.wait()

    async def fetch_once(self, session: ClientSession) -> None:
        """Fetch now; `failures` tells what came of it."""
        self._wanted.set()
        try:
            document = await download_json(session, self._url, self._timeout)
            self._take(self._make_key_set(document))
        except (CannotDownload, ValueError) as error:
            self._note_failure(error)
        finally:
            self._wanted.clear()
            self._ended.set()
            self._ended = asyncio.Event()

    def _take(self, key_set: KeySet) -> None:
        if self.failures:
            log.info("the JWKS can be had again")
        self.key_set = key_set
        self.failures = 0
        self._fetched_at = self._clock()

    def _note_failure(self, error: Exception) -> None:
        if not self.failures:
            log.error("the JWKS cannot be had: %s", error)
        self.failures += 1

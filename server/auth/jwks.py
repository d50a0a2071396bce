"""The keys of an identity provider: a JWKS (RFC 7517) that is refreshed in the background."""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from math import ceil
from time import monotonic
from typing import Final

from aiohttp import ClientSession

from middlewares.errors import ApiError, ErrorCode, Reason
from server.auth.claims import invalid_token
from server.auth.keys import (
    NOT_ACCEPTED,
    JwkSet,
    NoUsableKeyError,
    StaticKeyProvider,
    UnusedKey,
    explain_unused,
    make_static_provider,
    verify_maker,
)
from server.auth.tokens import Verify
from server.config import Settings
from server.config.keys import ED25519_ALGORITHMS, load_proof_keys
from server.http_client import FetchError, fetch_json, retry_delay

log = logging.getLogger(__name__)

_LONGEST_RETRY_SECONDS: Final = 10.0
_DOCUMENTS_TO_WITHDRAW: Final = 3


class JwksProvider:
    """Provides the keys of a JWKS address.

    The keys are fetched at once, then every `cache_seconds`. While the address fails, the last keys
    are used for up to `stale_seconds`. An unknown key id, or a signature that does not verify,
    triggers a refetch, at most one attempt in `cooldown_seconds`. One fetch takes at most
    `fetch_timeout` seconds; a request waits for it at most `wait` seconds, and the fetch goes on:
    only `run` fetches, so at most one fetch is in flight.

    A JWKS without a usable key is a failed fetch. From the third in a row on, if the first was at
    least `cache_seconds` ago, the provider has withdrawn its keys: there are none. Other failures
    in between do not count and do not interrupt the row.

    `secrets` verifies the tokens of the HMAC algorithms, which the JWKS has no part in.
    """

    def __init__(
        self,
        *,
        url: str,
        algorithms: Collection[str],
        secrets: StaticKeyProvider,
        make_key_set: Callable[[object], JwkSet],
        cache_seconds: float,
        stale_seconds: float,
        cooldown_seconds: float,
        fetch_timeout: float,
        wait: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._url = url
        self._secrets = secrets
        self._make_key_set = make_key_set
        self._algorithms = _with_both_names(frozenset(algorithms))
        self._cache_seconds = cache_seconds
        self._usable_seconds = max(cache_seconds, stale_seconds)
        self._cooldown_seconds = cooldown_seconds
        self._timeout = fetch_timeout
        self._wait = wait
        self._clock = clock
        self.unused: tuple[UnusedKey, ...] = ()
        """The keys of the last JWKS that are not used."""
        self.failure = ""
        """Why the last failed fetch failed."""
        self._failures = 0  # since the last success
        self._retry_delay = 0.0
        self._keyless_fetches = 0  # since the last success
        self._keyless_since = 0.0
        self._latest: JwkSet | None = None  # the same while the document is the same
        self._document: object = None
        self._fetched_at = 0.0
        self._wanted = asyncio.Event()  # set while a fetch is requested or in flight
        self._ended = asyncio.Event()  # set when that fetch ends; the next fetch has a new event
        self._next_refetch_at = self._refetch_began_at = clock()
        self._refetch_ended = asyncio.Event()
        self._refetch_ended.set()

    # --- the keys -------------------------------------------------------------------------------

    @property
    def key_set(self) -> JwkSet | None:
        """The current keys, or None when there are none or they are too old."""
        age = self.age
        return None if age is None or age > self._usable_seconds else self._latest

    @property
    def size(self) -> int:
        """The number of keys that tokens are verified with, secrets included."""
        return self._secrets.size + (0 if self.key_set is None else self.key_set.size)

    @property
    def age(self) -> float | None:
        """Seconds since the keys were last fetched, or None without keys."""
        return None if self._latest is None else self._clock() - self._fetched_at

    @property
    def state(self) -> str:
        """The state for `/readyz`: `ready`, `stale` (used while the address fails) or `missing`."""
        if self.key_set is None:
            return "missing"
        return "stale" if self._failures else "ready"

    async def find(self, algorithm: str, key_id: str | None) -> Verify:
        """Return what verifies a token; see `KeyProvider`."""
        if algorithm in self._secrets.verify:
            return self._secrets.verify[algorithm]
        if algorithm not in self._algorithms:
            details = explain_unused(self.unused, key_id, NOT_ACCEPTED)
            raise invalid_token(details, Reason.ALGORITHM)
        key_set = self.key_set
        if key_set is None or not key_set.resolves(algorithm, key_id):
            key_set = await self._refresh_for(algorithm, key_id)
        found = key_set.find(algorithm, key_id)
        if found is None:
            raise invalid_token(key_set.explain(key_id), Reason.KEY)
        return found

    async def has_newer(self, algorithm: str, key_set: object) -> bool:
        """Return whether there are newer keys than `key_set`; see `KeyProvider`."""
        if algorithm in self._secrets.verify:
            return False
        if self.key_set is key_set:
            self._begin_refetch()
        if self.key_set is key_set and not self._refetch_ended.is_set():
            left = self._refetch_began_at + self._wait - self._clock()
            try:
                async with asyncio.timeout(left):
                    await self._refetch_ended.wait()
            except TimeoutError:
                raise _keys_unavailable(1) from None
        return self.key_set is not key_set

    # --- what a request waits for ---------------------------------------------------------------

    async def _refresh_for(self, algorithm: str, key_id: str | None) -> JwkSet:
        """Wait for keys that resolve the token; return the latest keys when none do."""
        try:
            async with asyncio.timeout(self._wait):
                key_set = await self._resolve(algorithm, key_id)
        except TimeoutError:
            raise _keys_unavailable(1) from None
        if self._failures and not key_set.resolves(algorithm, key_id):
            raise _keys_unavailable(self._next_refetch_at - self._clock())  # 401 might log out
        return key_set

    async def _resolve(self, algorithm: str, key_id: str | None) -> JwkSet:
        key_set = await self._initial()
        for fetch in (self._fetch_in_flight, self._begin_refetch):
            if not key_set.resolves(algorithm, key_id) and (ended := fetch()):
                await ended.wait()
                key_set = await self._initial()
        return key_set

    async def _initial(self) -> JwkSet:
        """Return the keys; wait for the first fetch unless a fetch has already failed."""
        if self.key_set is None and not self._failures:
            await self._request_fetch().wait()
        if (key_set := self.key_set) is None:
            raise _keys_unavailable(self._delay())
        return key_set

    def _begin_refetch(self) -> asyncio.Event | None:
        """Begin a refetch and a cooldown; return the event of its end, or None in a cooldown."""
        now = self._clock()
        if now < self._next_refetch_at:
            return None
        self._refetch_began_at, self._next_refetch_at = now, now + self._cooldown_seconds
        self._refetch_ended = self._request_fetch()
        return self._refetch_ended

    def _fetch_in_flight(self) -> asyncio.Event | None:
        """Return the event of the end of the fetch that is in flight or requested, if any."""
        return self._ended if self._wanted.is_set() else None

    def _request_fetch(self) -> asyncio.Event:
        """Request a fetch, unless one is in flight; return the event of its end."""
        self._wanted.set()
        return self._ended

    # --- fetches --------------------------------------------------------------------------------

    async def run(self, session: ClientSession) -> None:
        """Refresh the keys until cancelled."""
        while True:
            await self.fetch_once(session)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._delay()):
                    await self._wanted.wait()

    def _delay(self) -> float:
        """Return the seconds between the end of a fetch and the next regular one."""
        fresh = 0.0 if self.age is None else max(0.0, self._cache_seconds - self.age)
        return max(fresh, self._retry_delay)

    async def fetch_once(self, session: ClientSession) -> None:
        """Fetch the keys now; `state` has the result."""
        self._wanted.set()
        try:
            self._accept(await fetch_json(session, self._url, self._timeout))
        except (FetchError, ValueError) as error:
            self._record_failure(error)
            if isinstance(error, NoUsableKeyError):
                self._record_unused(error.unused)
                self._record_keyless_fetch()
        finally:
            self._wanted.clear()
            self._ended.set()
            self._ended = asyncio.Event()

    def _accept(self, document: object) -> None:
        key_set = self._latest
        if key_set is None or document != self._document:
            key_set = self._make_key_set(document)
        if self._failures:
            log.info("the JWKS is available again")
        self._record_unused(key_set.unused)
        self._latest, self._document = key_set, document
        self._failures = self._keyless_fetches = 0
        self._retry_delay = 0.0
        self._fetched_at = self._clock()

    def _record_unused(self, unused: tuple[UnusedKey, ...]) -> None:
        if unused and unused != self.unused:
            log.warning("keys of JWT_JWKS_URL are not used: %s", ", ".join(map(str, unused)))
        self.unused = unused

    def _record_failure(self, error: Exception) -> None:
        if not self._failures:
            log.error("the JWKS is not available: %s", error)
        self._failures += 1
        self.failure = str(error)
        self._retry_delay = retry_delay(self._failures, longest=_LONGEST_RETRY_SECONDS)

    def _record_keyless_fetch(self) -> None:
        now = self._clock()
        if not self._keyless_fetches:
            self._keyless_since = now
        self._keyless_fetches += 1
        lasts = now - self._keyless_since >= self._cache_seconds
        if self._latest is not None and lasts and self._keyless_fetches >= _DOCUMENTS_TO_WITHDRAW:
            self._latest = None
            log.error("the JWKS still has no usable key: tokens are answered with 503")


def _with_both_names(algorithms: frozenset[str]) -> frozenset[str]:
    """Add the other name of Ed25519 (EdDSA of RFC 8037, Ed25519 of RFC 9864) to one of the two."""
    return algorithms | ED25519_ALGORITHMS if algorithms & ED25519_ALGORITHMS else algorithms


def _keys_unavailable(seconds: float) -> ApiError:
    details = "The identity provider's keys cannot be reached; try again"
    return ApiError(ErrorCode.AUTH_UNAVAILABLE, details, retry_after=max(1, ceil(seconds)))


def make_jwks_provider(settings: Settings) -> JwksProvider:
    """Return the provider for `JWT_JWKS_URL`, and `JWT_SECRET` beside it.

    Its `run` keeps the keys fresh. Patients' tokens are not verified with keys of `PROOF_KEY`.
    """
    proof_keys = load_proof_keys(settings.proof_key) if settings.proof_key else []
    excluded = [key.public_key() for key in proof_keys]
    chosen, maker = settings.jwt_algorithms, verify_maker(settings)
    return JwksProvider(
        url=settings.jwt_jwks_url,
        algorithms=chosen,
        secrets=make_static_provider(settings),
        make_key_set=lambda document: JwkSet(
            document, allowed=chosen, make_verify=maker, excluded=excluded
        ),
        cache_seconds=settings.jwks_cache_seconds,
        stale_seconds=settings.jwks_stale_seconds,
        cooldown_seconds=settings.jwks_cooldown_seconds,
        fetch_timeout=settings.jwks_timeout_seconds,
        wait=settings.session_budget_seconds / 2,
    )

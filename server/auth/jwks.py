"""The keys of an identity provider: a JWKS (RFC 7517) that is refreshed in the background."""

import asyncio
import json
import logging
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from math import ceil
from time import monotonic
from typing import Any, Final

import jwt
from aiohttp import ClientSession
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from middlewares.errors import ApiError, ErrorCode, Reason
from server.auth.aiohttp_jwt_adapter import Decoder
from server.auth.claims import Claims, invalid_token
from server.auth.tokens import base64url_decode
from server.config.keys import algorithms_of
from server.http_client import FetchError, fetch_json, retry_delay

log = logging.getLogger(__name__)

MAX_KEYS_OF_AN_ID: Final = 4
"""A token is tried with at most this many keys of its `kid`."""

_COORDINATE_BYTES: Final = {"P-256": 32, "P-384": 48, "P-521": 66}
_MAX_SHOWN: Final = 80

MakeDecoders = Callable[[object, Iterable[str]], Mapping[str, Decoder]]
"""Returns a decoder for each algorithm that a public key is used with."""


class NoUsableKeyError(ValueError):
    """The document is a JWKS, and none of its keys is usable."""


class JwkSet:
    """The decoders for the usable signature keys of a JWKS document.

    Ignored: symmetric keys, encryption keys, private keys, weak keys, keys for algorithms that are
    not allowed, and malformed entries. Raises `NoUsableKeyError` when no usable key remains, and
    another ValueError for a document that is not a JWKS.
    """

    def __init__(
        self, document: object, *, allowed: frozenset[str], make_decoders: MakeDecoders
    ) -> None:
        self._by_id: dict[str | None, dict[str, dict[bytes, Decoder]]] = {}
        self._by_algorithm: dict[str, dict[bytes, Decoder]] = {}
        self._keys: dict[str | None, set[bytes]] = {}
        unused: list[str] = []
        for jwk in _members(document):
            key, algorithms, reason = _read(jwk)
            if not reason and algorithms.isdisjoint(allowed):
                reason = "no algorithm of it is one of JWT_ALGORITHMS"
            if not reason and not self._has_room(jwk.get("kid"), key):
                reason = f"more than {MAX_KEYS_OF_AN_ID} keys have this kid"
            if reason:
                unused.append(f"{json.dumps(jwk.get('kid'))[:_MAX_SHOWN]} ({reason})")
                continue
            decoders = make_decoders(key, algorithms & allowed)
            self._add(jwk.get("kid"), _fingerprint(key), decoders)
        self.unused = tuple(unused)
        """The keys that are not used: for each its `kid` and the reason."""
        if not self._by_algorithm:
            raise NoUsableKeyError("no usable key")

    def _has_room(self, key_id: str | None, key: Any) -> bool:
        """Return whether one more key may have this id; keys without an id are told apart."""
        known = self._keys.setdefault(key_id, set())
        if key_id is not None and len(known | {_fingerprint(key)}) > MAX_KEYS_OF_AN_ID:
            return False
        known.add(_fingerprint(key))
        return True

    def _add(self, key_id: str | None, fingerprint: bytes, decoders: Mapping[str, Decoder]) -> None:
        """Add the decoders of a key; a key that is listed twice counts once."""
        for algorithm, decoder in decoders.items():
            same = self._by_algorithm.setdefault(algorithm, {}).setdefault(fingerprint, decoder)
            by_algorithm = self._by_id.setdefault(key_id, {})
            by_algorithm.setdefault(algorithm, {}).setdefault(fingerprint, same)

    def resolves(self, algorithm: str, key_id: str | None) -> bool:
        """Return whether this set determines the key of a token: a refetch is not needed."""
        if key_id is None:
            return self.find(algorithm, None) is not None
        return key_id in self._by_id

    def find(self, algorithm: str, key_id: str | None) -> Decoder | None:
        """Return the decoder of the keys with an id; without an id, of the only key that fits."""
        if key_id is not None:
            found = list(self._by_id.get(key_id, {}).get(algorithm, {}).values())
            return _any_of(found) if len(found) > 1 else next(iter(found), None)
        fitting = list(self._by_algorithm.get(algorithm, {}).values())
        return fitting[0] if len(fitting) == 1 else None


def _any_of(decoders: Sequence[Decoder]) -> Decoder:
    """Return a decoder that tries keys in turn until a signature verifies."""

    async def decoder(token: str) -> Claims:
        for decode in decoders[:-1]:
            try:
                return await decode(token)
            except ApiError as error:
                if error.reason is not Reason.SIGNATURE:
                    raise
        return await decoders[-1](token)

    return decoder


def _fingerprint(key: Any) -> bytes:
    """Return the SubjectPublicKeyInfo (RFC 5280), which is the same for the same key."""
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _members(document: object) -> list[Any]:
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("not a JWKS")  # noqa: TRY004  one type for every unusable document
    members = [jwk for jwk in keys if isinstance(jwk, dict)]
    return [{name: value for name, value in jwk.items() if value is not None} for jwk in members]


def _read(jwk: dict[str, Any]) -> tuple[object, frozenset[str], str]:
    """Return a key, the algorithms that it can verify, and why it is unusable, if it is."""
    if not _is_for_signatures(jwk):
        return None, frozenset(), "it is not for signatures"
    if not isinstance(jwk.get("kid"), str | None):
        return None, frozenset(), "its kid is not a string"
    try:
        key = jwt.PyJWK(_padded(jwk)).key
    except Exception:  # noqa: BLE001  PyJWT raises many types for malformed keys
        return None, frozenset(), "it is malformed or of an unknown kind"
    own, usable = jwk.get("alg"), algorithms_of(key)
    if not usable:
        return None, frozenset(), "it is private, symmetric, too weak or of another curve"
    return key, usable & {own} if own else usable, ""


def _padded(jwk: dict[str, Any]) -> dict[str, Any]:
    """Add the leading zeros of EC coordinates (RFC 7518 section 6.2.1.2) that issuers trim."""
    size = _COORDINATE_BYTES.get(jwk.get("crv", ""))
    if jwk.get("kty") != "EC" or size is None:
        return jwk
    padded = {name: base64url_decode(jwk[name].encode()).rjust(size, b"\0") for name in ("x", "y")}
    encoded = {name: urlsafe_b64encode(value).decode() for name, value in padded.items()}
    return {**jwk, **{name: value.rstrip("=") for name, value in encoded.items()}}


def _is_for_signatures(jwk: dict[str, Any]) -> bool:
    uses = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(uses, list) and "verify" in uses


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
        self._unused: tuple[str, ...] = ()
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
        if key_set.unused and key_set.unused != self._unused:
            log.warning("keys of JWT_JWKS_URL are not used: %s", ", ".join(key_set.unused))
        self._unused = key_set.unused
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


class JwksProvider:
    """Provides the keys of a JWKS address.

    The keys are fetched at once, then every `cache_seconds`. While the address fails, the last keys
    are used for up to `stale_seconds`. An unknown key id triggers a refetch, at most one attempt in
    `cooldown_seconds`. One fetch takes at most `fetch_timeout` seconds; a
    request waits for it at most `wait` seconds, and the fetch goes on.
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
        fetch_timeout: float,
        wait: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._algorithms = frozenset(algorithms)
        self._usable_seconds = max(cache_seconds, stale_seconds)
        self._cooldown_seconds = cooldown_seconds
        self._wait = wait
        self._clock = clock
        self._next_refetch_at = clock()
        self._refresher = JwksRefresher(
            url=url,
            make_key_set=make_key_set,
            cache_seconds=cache_seconds,
            timeout=fetch_timeout,
            clock=clock,
        )

    @property
    def generation(self) -> JwkSet | None:
        """The current keys, or None when there are none or they are too old."""
        age = self._refresher.age
        return None if age is None or age > self._usable_seconds else self._refresher.key_set

    @property
    def unused(self) -> tuple[str, ...]:
        """The published keys that are not used: for each its `kid` and the reason."""
        return () if self.generation is None else self.generation.unused

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
            async with asyncio.timeout(self._wait):
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

"""The authenticator: from a token to its principal, by header, key, signature and claims."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import sha256
from time import perf_counter
from typing import Final

from middlewares.authentication import Authenticate
from middlewares.context import Clock, Principal
from middlewares.errors import ApiError, Reason
from server.auth.aiohttp_jwt_adapter import verify_token
from server.auth.claims import ClaimRules
from server.auth.keys import KeyProvider
from server.auth.tokens import MAX_CACHED_HEADERS, Header, Verify, check_type, read_header

MAX_CACHED_TOKENS: Final = 8192
"""The capacity of the cache; beyond it, the token that was verified first is evicted."""

MAX_CACHED_LENGTH: Final = 2048
"""A longer token is verified on every request, because its principal may take much memory."""

TURN_SECONDS: Final = 0.01
"""How long new tokens are verified in one turn of the event loop; one is verified in any case."""

_Job = Callable[[], Principal]
_Outcome = Principal | Exception


class VerifiedTokenCache:
    """Principals of verified tokens, by the SHA-256 of the token.

    The entries belong to one key set: another key set clears the cache.
    """

    def __init__(self) -> None:
        self._principals: OrderedDict[bytes, Principal] = OrderedDict()
        self._key_set: object = None

    def get(self, digest: bytes, key_set: object) -> Principal | None:
        """Return the principal of a token that a key of this set verified."""
        return self._principals.get(digest) if key_set is self._key_set else None

    def add(self, digest: bytes, principal: Principal, key_set: object) -> None:
        """Add a principal; discard those of another key set."""
        if key_set is not self._key_set:
            self._principals.clear()
            self._key_set = key_set
        self._principals[digest] = principal
        if len(self._principals) > MAX_CACHED_TOKENS:
            self._principals.popitem(last=False)


class VerificationQueue:
    """Limits the time that is spent on new tokens in one turn of the event loop.

    Known tokens do not pass here: they are answered between two turns. What does not fit into a
    turn waits. Tokens take turns, so a token that many requests carry delays another one once.
    """

    def __init__(self, clock: Clock = perf_counter) -> None:
        self._clock = clock
        self._ends_at: float | None = None  # without a turn that has begun
        self._waiting: OrderedDict[bytes, deque[tuple[_Job, asyncio.Future[_Outcome]]]]
        self._waiting = OrderedDict()

    def has_time(self) -> bool:
        """Return whether a token can be verified at once; the first one in a turn begins it."""
        if self._ends_at is None:
            self._begin_turn()
            return True
        return not self._waiting and not self._is_over()

    async def wait(self, digest: bytes, job: _Job) -> Principal:
        """Run the job of a token when it is its turn. Returns or raises what the job does."""
        future: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(digest, deque()).append((job, future))
        outcome = await future
        try:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        finally:
            del future, outcome  # else the error and its stack trace would refer to each other

    def _begin_turn(self) -> None:
        self._ends_at = self._clock() + TURN_SECONDS
        asyncio.get_running_loop().call_soon(self._next_turn)

    def _is_over(self) -> bool:
        return self._ends_at is not None and self._clock() >= self._ends_at

    def _next_turn(self) -> None:
        """Run what waits until the time has passed: one job, or more."""
        self._ends_at = None
        while self._waiting and not self._is_over():
            digest, jobs = self._waiting.popitem(last=False)
            job, future = jobs.popleft()
            if jobs:
                self._waiting[digest] = jobs
            if not future.done():  # else the request has ended
                if self._ends_at is None:
                    self._begin_turn()
                future.set_result(_outcome(job))
            del future  # the stack trace of an error refers to this frame


def _outcome(job: _Job) -> _Outcome:
    try:
        return job()
    except Exception as error:  # noqa: BLE001  the request that waits raises it
        return error


def _make_header_reader(required_type: str) -> Callable[[str], Header]:
    """Return the function that reads the header segment of a token with an accepted type."""

    @lru_cache(maxsize=MAX_CACHED_HEADERS)
    def read_accepted(segment: str) -> Header:
        header = read_header(segment)
        check_type(header, required_type)
        return header

    return read_accepted


def make_authenticator(
    keys: KeyProvider, rules: ClaimRules, clock: Clock, required_type: str = ""
) -> Authenticate:
    """Return the function that authenticates tokens.

    The signature of a token is verified once for each key set, its dates on every request.
    """
    cache, queue = VerifiedTokenCache(), VerificationQueue()
    read_accepted = _make_header_reader(required_type)

    def verify_once(token: str, digest: bytes, verify: Verify, key_set: object) -> Principal:
        """Verify a token, unless another request with it came first."""
        if (known := cache.get(digest, key_set)) is not None:
            return known
        principal = rules.principal_from(verify_token(token, verify))
        if key_set is keys.key_set is not None and len(token) <= MAX_CACHED_LENGTH:
            cache.add(digest, principal, key_set)
        return principal

    async def verify_new(token: str, digest: bytes) -> Principal:
        header = read_accepted(token.partition(".")[0])
        while True:
            verify = await keys.find(header.algorithm, header.key_id)
            key_set = keys.key_set  # no await since `find`: the two belong together
            try:
                job = partial(verify_once, token, digest, verify, key_set)
                return job() if queue.has_time() else await queue.wait(digest, job)
            except ApiError as error:
                is_final = error.reason is not Reason.SIGNATURE
                if is_final or not await keys.has_newer(header.algorithm, key_set):
                    raise

    async def authenticate(token: str) -> Principal:
        digest = sha256(token.encode()).digest()
        principal = cache.get(digest, keys.key_set) or await verify_new(token, digest)
        rules.check_dates(principal, clock())
        return principal

    return authenticate

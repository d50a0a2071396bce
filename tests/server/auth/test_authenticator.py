"""The authenticator: from a token to its principal, and the cache of verified tokens."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import time
from typing import Any

import pytest

from middlewares.authentication import Authenticate
from middlewares.context import Principal
from middlewares.errors import ApiError, ErrorCode, Reason
from rig.service import claims, make_settings, sign
from server.auth import authenticator
from server.auth.authenticator import TURN_SECONDS, VerificationQueue, make_authenticator
from server.auth.claims import ClaimRules, Claims, invalid_token
from server.auth.keys import make_static_provider
from server.auth.tokens import Verify

RULES = ClaimRules("id", "type", leeway=5)


def real_authenticator(clock: Callable[[], float] = time) -> Authenticate:
    return make_authenticator(make_static_provider(make_settings()), RULES, clock)


async def error_code(authenticate: Authenticate, token: str) -> ErrorCode:
    with pytest.raises(ApiError) as caught:
        await authenticate(token)
    return caught.value.code


async def test_token_is_valid_until_exp_and_leeway_have_passed() -> None:
    now = time()
    expires_at = int(now) + 60
    authenticate = real_authenticator(lambda: now)
    token = sign(claims(exp=expires_at, jti="j"))
    assert (await authenticate(token)).token_id == "j"
    now = expires_at + 4
    assert (await authenticate(token)).patient_id == "pt_1"
    now = expires_at + 5
    assert await error_code(authenticate, token) == "AUTH_TOKEN_EXPIRED"


async def test_invalid_tokens_are_rejected_beside_valid_ones() -> None:
    authenticate = real_authenticator()
    valid = sign()
    for invalid in (f"{valid.rpartition('.')[0]}.{'A' * 43}", sign(algorithm="HS512"), "a.b.c"):
        for _ in range(2):
            assert await error_code(authenticate, invalid) == "AUTH_TOKEN_INVALID"
            assert (await authenticate(valid)).patient_id == "pt_1"


# --- the cache ----------------------------------------------------------------------------------


class CountingKeys:
    """A key provider that counts verifications."""

    state = "ready"

    size = 1
    unused = ()

    def __init__(self, *, has_keys: bool = True) -> None:
        self.selected: list[tuple[str, str | None]] = []
        self.verified = 0
        self._has_keys = has_keys
        self.rotate()

    def rotate(self) -> None:
        def verify(_: bytes) -> Claims:
            self.verified += 1
            return claims(exp=1000, iat=...)

        self.current: Verify = verify

    @property
    def key_set(self) -> Verify | None:
        return self.current if self._has_keys else None

    async def find(self, algorithm: str, key_id: str | None) -> Verify:
        self.selected.append((algorithm, key_id))
        return self.current

    async def has_newer(self, algorithm: str, key_set: object) -> bool:
        return self.current is not key_set


@pytest.fixture
def keys() -> CountingKeys:
    return CountingKeys()


@pytest.fixture
def authenticate(keys: CountingKeys) -> Authenticate:
    return make_authenticator(keys, RULES, lambda: 500)


def token(number: int = 1, **header: Any) -> str:
    return sign(claims(jti=f"{number}"), **header)


async def test_key_is_selected_by_the_header(
    keys: CountingKeys, authenticate: Authenticate
) -> None:
    await authenticate(token())
    await authenticate(token(kid="k"))
    assert keys.selected == [("HS256", None), ("HS256", "k")]


async def test_same_token_is_verified_once(keys: CountingKeys, authenticate: Authenticate) -> None:
    same = token()
    assert await authenticate(same) is await authenticate(same)
    assert keys.verified == 1
    await authenticate(token(2))
    assert keys.verified == 2


async def test_dates_of_a_cached_token_are_checked(keys: CountingKeys) -> None:
    now = 500.0
    authenticate = make_authenticator(keys, RULES, lambda: now)
    same = token()
    await authenticate(same)
    now = 1005
    assert await error_code(authenticate, same) == "AUTH_TOKEN_EXPIRED"
    assert keys.verified == 1


async def test_rotation_clears_the_cache(keys: CountingKeys, authenticate: Authenticate) -> None:
    first, second = token(1), token(2)
    await authenticate(first)
    await authenticate(second)
    old = weakref.ref(keys.current)
    keys.rotate()
    await authenticate(first)
    assert keys.verified == 3
    await authenticate(second)
    assert keys.verified == 4
    gc.collect()
    assert old() is None


async def test_token_verified_first_is_evicted(
    keys: CountingKeys, authenticate: Authenticate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator, "MAX_CACHED_TOKENS", 2)
    for number, verified in [(1, 1), (2, 2), (1, 2), (3, 3), (2, 3), (3, 3), (1, 4), (2, 5)]:
        await authenticate(sign(claims(jti=f"{number}", iat=0)))
        assert keys.verified == verified, number


@pytest.mark.parametrize(("length", "verified"), [(2048, 1), (2049, 2)])
async def test_long_token_is_verified_on_every_request(
    keys: CountingKeys, authenticate: Authenticate, length: int, verified: int
) -> None:
    same = token()
    same += "x" * (length - len(same))
    await authenticate(same)
    await authenticate(same)
    assert keys.verified == verified


async def test_nothing_is_cached_without_a_key_set() -> None:
    keys = CountingKeys(has_keys=False)
    authenticate = make_authenticator(keys, RULES, lambda: 500)
    same = token()
    await authenticate(same)
    await authenticate(same)
    assert keys.verified == 2


# --- a signature that does not verify, and newer keys -------------------------------------------


class RotatingKeys(CountingKeys):
    """Keys whose first set verifies nothing."""

    def rotate(self) -> None:
        super().rotate()
        good = self.current

        def verify(_: bytes) -> Claims:
            self.verified += 1
            raise invalid_token("The token's signature does not verify", Reason.SIGNATURE)

        self.newer, self.current = good, verify

    async def has_newer(self, algorithm: str, key_set: object) -> bool:
        self.selected.append(("newer", algorithm))
        is_newer = self.newer is not key_set
        self.current = self.newer
        return is_newer


async def test_failed_signature_is_verified_with_newer_keys() -> None:
    keys = RotatingKeys()
    authenticate = make_authenticator(keys, RULES, lambda: 500)
    assert (await authenticate(token(kid="k"))).patient_id == "pt_1"
    assert keys.selected == [("HS256", "k"), ("newer", "HS256"), ("HS256", "k")]
    await authenticate(token(kid="k"))
    assert keys.verified == 2


# --- the queue ----------------------------------------------------------------------------------

DIGESTS = [bytes([number]) for number in range(4)]
PRINCIPAL = RULES.principal_from(claims())


class Work:
    """Jobs that take time of a clock: by default more than a turn has. `done` has their names."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[str] = []
        self.queue = VerificationQueue(lambda: self.now)

    async def run(self, digest: int, name: str, seconds: float = 2 * TURN_SECONDS) -> Principal:
        def job() -> Principal:
            self.now += seconds
            self.done.append(name)
            if name == "forged":
                raise invalid_token("forged", Reason.SIGNATURE)
            return PRINCIPAL

        return job() if self.queue.has_time() else await self.queue.wait(DIGESTS[digest], job)

    def submit(self, digest: int, name: str, *seconds: float) -> asyncio.Task[Principal]:
        return asyncio.create_task(self.run(digest, name, *seconds))


async def test_jobs_run_at_once_until_the_time_of_a_turn_is_spent() -> None:
    work = Work()
    jobs = [work.submit(index % 4, name, TURN_SECONDS * 0.6) for index, name in enumerate("abcde")]
    for done in ("ab", "abcd", "abcde"):
        await asyncio.sleep(0)
        assert "".join(work.done) == done
    assert await asyncio.gather(*jobs) == [PRINCIPAL] * 5
    assert await work.submit(0, "f") is PRINCIPAL


async def test_many_requests_of_one_token_delay_another_token_once() -> None:
    work = Work()
    flood = [work.submit(1, "forged") for _ in range(5)]
    assert await work.submit(2, "patient") is PRINCIPAL
    assert work.done[:3] == ["forged", "forged", "patient"]
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert {type(each) for each in results} == {ApiError}
    assert len(set(results)) == 5  # each request has an error of its own


async def rejected(job: Awaitable[Principal]) -> None:
    with suppress(ApiError):
        await job


async def test_errors_leave_no_reference_cycles() -> None:
    work = Work()
    gc.collect()
    gc.disable()
    try:
        await asyncio.gather(*(rejected(work.run(each % 4, "forged")) for each in range(20)))
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_request_that_has_ended_is_not_verified() -> None:
    work = Work()
    work.submit(0, "first")
    left, stays = work.submit(1, "left"), work.submit(2, "stays")
    await asyncio.sleep(0)
    left.cancel()
    await stays
    assert work.done == ["first", "stays"]


async def test_new_token_of_many_requests_is_verified_once(keys: CountingKeys) -> None:
    authenticate = make_authenticator(keys, RULES, lambda: 500)
    same = token()
    await asyncio.gather(*(authenticate(same) for _ in range(50)))
    assert keys.verified == 1

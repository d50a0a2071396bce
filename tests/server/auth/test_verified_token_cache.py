"""A verified token is not verified again, and never outlives its key or its `exp`."""

import gc
import weakref
from collections.abc import Callable

import pytest

from middlewares.api_errors import ApiError
from server.auth import authenticator as tokens
from server.auth.aiohttp_jwt_adapter import Decoder
from server.auth.authenticator import make_authenticator
from server.auth.claims import ClaimRules, Claims
from tests.support import claims, sign

RULES = ClaimRules("id", "type", leeway=5)


class CountingKeys:
    """One key whose decoder counts what it is asked to verify."""

    state = "ready"

    def __init__(self) -> None:
        self.verified = 0
        self.rotate()

    def rotate(self) -> None:
        """Put another decoder in the old one's place."""

        async def decode(_: str) -> Claims:
            self.verified += 1
            return claims(exp=1000, iat=...)

        self._decode: Decoder = decode

    @property
    def generation(self) -> Decoder | None:
        return self._decode

    async def decoder(self, algorithm: str, key_id: str | None) -> Decoder:
        return self._decode


def at(*times: float) -> Callable[[], float]:
    """Make a clock that tells these times, the last of them for ever."""
    left = list(times)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


async def test_the_same_token_is_verified_once() -> None:
    keys = CountingKeys()
    verify = make_authenticator(keys, RULES, at(500))
    token = sign()
    assert await verify(token) is await verify(token)
    assert keys.verified == 1


async def test_another_token_is_verified_on_its_own() -> None:
    keys = CountingKeys()
    verify = make_authenticator(keys, RULES, at(500))
    await verify(sign(claims(jti="one")))
    await verify(sign(claims(jti="two")))
    assert keys.verified == 2


async def test_a_token_that_has_run_out_is_refused_though_it_was_verified_before() -> None:
    verify = make_authenticator(CountingKeys(), RULES, at(500, 1005))
    token = sign()
    await verify(token)
    with pytest.raises(ApiError, match="AUTH_TOKEN_EXPIRED"):
        await verify(token)


async def test_a_key_that_was_rotated_out_takes_with_it_what_it_verified() -> None:
    keys = CountingKeys()
    verify = make_authenticator(keys, RULES, at(500))
    token = sign()
    await verify(token)
    keys.rotate()
    await verify(token)
    assert keys.verified == 2


async def test_keys_that_were_rotated_out_are_not_held_on_to() -> None:
    keys = CountingKeys()
    verify = make_authenticator(keys, RULES, at(500))
    await verify(sign(claims(jti="one")))
    before = weakref.ref(keys._decode)
    keys.rotate()
    await verify(sign(claims(jti="two")))
    gc.collect()
    assert before() is None


async def test_no_more_tokens_are_remembered_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "MAX_CACHED_TOKENS", 1)
    keys = CountingKeys()
    verify = make_authenticator(keys, RULES, at(500))
    first, second = sign(claims(jti="one")), sign(claims(jti="two"))
    for token in (first, second, second, first):
        await verify(token)
    assert keys.verified == 3


async def test_a_long_token_is_verified_each_time() -> None:
    keys = CountingKeys()
    verify = make_authenticator(keys, RULES, at(500))
    token = sign(claims(permissions=["voice"] * 400))
    assert len(token) > tokens.MAX_CACHED_LENGTH
    await verify(token)
    await verify(token)
    assert keys.verified == 2


async def test_nothing_is_remembered_of_keys_that_may_no_longer_be_used() -> None:
    class TooOld(CountingKeys):
        @property
        def generation(self) -> None:
            return None

    keys = TooOld()
    verify = make_authenticator(keys, RULES, at(500))
    token = sign()
    await verify(token)
    await verify(token)
    assert keys.verified == 2

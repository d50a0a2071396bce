"""Fixtures for keys: an identity provider on loopback, and a provider of its keys."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from aiohttp import ClientSession

from rig.issuer import Issuer, issuing
from rig.service import SECRET
from server.auth.jwk_set import JwkSet
from server.auth.jwks import JwksProvider
from server.auth.tokens import VerificationKey, Verify, make_verify
from server.config.keys import PUBLIC_ALGORITHMS

CACHE_SECONDS = 600
STALE_SECONDS = 86400
COOLDOWN_SECONDS = 5


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
def clock() -> Clock:
    return Clock()


def verify_with(algorithm: str, keys: Iterable[object]) -> Verify:
    return make_verify(*(VerificationKey(algorithm, key) for key in keys))


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> JwksProvider:
    return JwksProvider(
        url=issuer.url,
        algorithms=PUBLIC_ALGORITHMS,
        secrets={"HS256": verify_with("HS256", [SECRET.encode()])},
        secret_count=1,
        make_key_set=partial(JwkSet, allowed=PUBLIC_ALGORITHMS, make_verify=verify_with),
        cache_seconds=CACHE_SECONDS,
        stale_seconds=STALE_SECONDS,
        cooldown_seconds=COOLDOWN_SECONDS,
        fetch_timeout=0.5,
        wait=0.5,
        clock=clock,
    )


@asynccontextmanager
async def in_background(keys: JwksProvider, session: ClientSession) -> AsyncIterator[None]:
    """Run the provider's refresh as the service does."""
    task = asyncio.create_task(keys.run(session))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

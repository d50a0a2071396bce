"""Fixtures for the tests of authentication."""

from collections.abc import AsyncIterator

import pytest

from rig.issuer import Issuer, issuing


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """Run an identity provider on loopback."""
    async with issuing() as issuer:
        yield issuer

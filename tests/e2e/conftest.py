"""Fixtures of the browser tests."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from tests.e2e.browser import browser, build_sdk


@pytest.fixture(scope="session")
def sdk() -> None:
    """Bundle Vapi's web SDK."""
    build_sdk()


@pytest.fixture
async def chromium(sdk: None) -> AsyncIterator[Browser]:
    """Yield a browser; the page has the bundled SDK."""
    async with browser() as launched:
        yield launched

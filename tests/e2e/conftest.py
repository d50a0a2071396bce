"""Fixtures of the browser tests."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from tests.e2e.browser import browser, build_sdk


@pytest.fixture(scope="session")
def sdk() -> None:
    """Have Vapi's web SDK bundled."""
    build_sdk()


@pytest.fixture
async def chromium(sdk: None) -> AsyncIterator[Browser]:
    """Give a browser, and the page its SDK."""
    async with browser() as launched:
        yield launched

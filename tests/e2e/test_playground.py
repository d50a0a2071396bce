"""The playground in a browser: with a mouse, a keyboard and a phone; accessibility."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Request, expect

from tests.e2e.browser import AXE, DESKTOP, PHONE, open_page
from tests.e2e.support import development

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Serve development mode, as `make run` does."""
    async with development() as served:
        yield served


async def test_all_answers_are_as_expected(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    await page.get_by_role("button", name="Run all").click()
    await expect(page.locator("#tally")).to_have_text("24 of 24 as expected", timeout=60_000)


async def test_keyboard_only(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    await page.get_by_role("radio", name="Amara Okafor").focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Tab")
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#badge")).to_have_text("200 OK")
    await expect(page.locator("#body")).to_contain_text('"id": "pt_1002"')
    await expect(page.locator("#body")).to_contain_text('"credentialType": "session_token"')
    await expect(page.locator("#credential")).to_contain_text("can start a web call")


async def test_requests_stay_on_this_machine(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    hosts = set()

    def note(request: Request) -> None:
        hosts.add(request.url.split("/")[2].partition(":")[0])

    page.on("request", note)
    await page.reload()
    await page.get_by_role("button", name="Start a session").click()
    await page.get_by_role("button", name="Start the call").click()
    await expect(page.locator("#call-badge")).to_have_text("201 accepted")
    assert hosts == {"127.0.0.1"}


async def test_page_works_without_the_bundled_sdk(chromium: Browser, url: str) -> None:
    page = await (await chromium.new_context()).new_page()
    await page.route("**/vapi-sdk.js", lambda route: route.fulfill(status=404))
    await page.goto(url)
    await expect(page.locator("#sdk-note")).to_contain_text("make playground-sdk")
    await page.get_by_role("button", name="Start a session").click()
    await expect(page.locator("#badge")).to_have_text("200 OK")
    await expect(page.get_by_role("button", name="Start the call")).to_be_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
async def test_accessibility(
    chromium: Browser, url: str, size: tuple[int, int], scheme: str
) -> None:
    page = await open_page(chromium, url, size=size, scheme=scheme)
    assert await violations(page) == []
    await page.get_by_role("button", name="Start a session").click()
    await page.get_by_role("button", name="With another assistant").click()
    await expect(page.locator("#call-badge")).to_have_text("400 refused")
    assert await violations(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth") == size[0]


async def violations(page: Page) -> list[Any]:
    """Return the accessibility violations that axe finds; it runs outside the content policy."""
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [(v["id"], [n["target"] for n in v["nodes"]]) for v in found["violations"]]

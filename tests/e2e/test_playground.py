"""The playground as a developer meets it: with a mouse, a keyboard, a phone, a screen reader."""

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


async def test_every_answer_of_the_catalogue_comes_as_written(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    await page.get_by_role("button", name="Run the whole catalogue").click()
    await expect(page.locator("#tally")).to_have_text("20 of 20 as written", timeout=60_000)


async def test_the_keyboard_is_enough(chromium: Browser, url: str) -> None:
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


async def test_nothing_is_asked_of_the_outside(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    hosts = set()

    def note(request: Request) -> None:
        hosts.add(request.url.split("/")[2].partition(":")[0])

    page.on("request", note)
    await page.reload()
    await page.get_by_role("button", name="Ask for a session").click()
    await page.get_by_role("button", name="Start the call").click()
    await expect(page.locator("#call-badge")).to_have_text("201 accepted")
    assert hosts == {"127.0.0.1"}


async def test_without_the_bundle_all_else_works(chromium: Browser, url: str) -> None:
    page = await (await chromium.new_context()).new_page()
    await page.route("**/vapi-sdk.js", lambda route: route.fulfill(status=404))
    await page.goto(url)
    await expect(page.locator("#sdk-note")).to_contain_text("make playground-sdk")
    await page.get_by_role("button", name="Ask for a session").click()
    await expect(page.locator("#badge")).to_have_text("200 OK")
    await expect(page.get_by_role("button", name="Start the call")).to_be_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
async def test_everybody_can_use_it(
    chromium: Browser, url: str, size: tuple[int, int], scheme: str
) -> None:
    page = await open_page(chromium, url, size=size, scheme=scheme)
    assert await violations(page) == []
    await page.get_by_role("button", name="Ask for a session").click()
    await page.get_by_role("button", name="With another assistant").click()
    await expect(page.locator("#call-badge")).to_have_text("400 refused")
    assert await violations(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth") == size[0]


async def violations(page: Page) -> list[Any]:
    """Let axe look for what hinders people; it runs outside the page's content policy."""
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [(v["id"], [n["target"] for n in v["nodes"]]) for v in found["violations"]]

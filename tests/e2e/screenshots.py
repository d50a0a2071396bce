"""Takes the pictures in docs/screenshots: `python -m tests.e2e.screenshots`."""

import asyncio
from urllib.parse import urljoin

from playwright.async_api import Browser, Page

from tests.e2e.browser import PHONE, ROOT, browser, build_sdk, open_page
from tests.e2e.support import development

FOLDER = ROOT / "docs" / "screenshots"


async def ask(page: Page) -> None:
    """Get a session token, and start a call with it."""
    await page.get_by_role("radio", name="Session token").check()
    await page.get_by_role("button", name="Start a session").click()
    await page.get_by_role("button", name="Start the call").click()
    await page.locator("#call-badge[data-state=good]").wait_for()


async def take(page: Page, name: str, *, top: str = "body") -> None:
    """Take a picture of the viewport, with an element at its top."""
    await page.mouse.move(0, 0)  # away from elements that change under the mouse
    await page.locator(top).evaluate("element => element.scrollIntoView()")
    await page.wait_for_timeout(500)  # until everything is painted
    await page.screenshot(path=FOLDER / f"{name}.png")


async def desktop(launched: Browser, url: str) -> None:
    """A session; in the dark scheme, an error after the whole catalogue."""
    page = await open_page(launched, url)
    await ask(page)
    await take(page, "playground-desktop")
    page = await open_page(launched, url, scheme="dark")
    await page.get_by_role("button", name="Run all").click()
    await page.get_by_text("24 of 24 as expected").wait_for(timeout=60_000)
    await page.locator("body[aria-busy=false]").wait_for()
    await page.get_by_role("button", name="AUTH_TOKEN_EXPIRED").click()
    await page.locator("#badge", has_text="AUTH_TOKEN_EXPIRED").wait_for()
    await take(page, "playground-desktop-dark")


async def phone(launched: Browser, url: str) -> None:
    """The controls, and the answer."""
    page = await open_page(launched, url, size=PHONE)
    await ask(page)
    await take(page, "playground-phone")
    await take(page, "playground-phone-answer", top="#answer")


async def tools(launched: Browser, url: str) -> None:
    """What the assistant's tools see: a verified patient, and an attack."""
    page = await open_page(launched, url)
    await ask(page)
    await page.get_by_role("button", name="Call the tool").click()
    await page.locator("#tools-badge[data-state=good]").wait_for()
    await take(page, "playground-desktop-tools", top="#tools")
    page = await open_page(launched, url, size=PHONE)
    await ask(page)
    await page.get_by_role("button", name="Claim to be another patient").click()
    await page.locator("#tools-badge[data-state=bad]").wait_for()
    await take(page, "playground-phone-tools", top="#tools")


async def api(launched: Browser, url: str) -> None:
    """The page of the API."""
    page = await launched.new_page(viewport={"width": 1280, "height": 820})
    await page.goto(urljoin(url, "/docs"))
    await page.get_by_role("button", name="Authorize").wait_for()
    await take(page, "api", top="html")


async def main() -> None:
    """Take all pictures."""
    build_sdk()
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with development() as url, browser() as launched:
        await desktop(launched, url)
        await phone(launched, url)
        await tools(launched, url)
        await api(launched, url)


if __name__ == "__main__":
    asyncio.run(main())

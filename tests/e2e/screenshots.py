"""Takes the pictures in docs/screenshots: `python -m tests.e2e.screenshots`."""

import asyncio
from urllib.parse import urljoin

from playwright.async_api import Browser, Page

from tests.e2e.apng import animated_png
from tests.e2e.browser import PHONE, ROOT, browser, build_sdk, open_page
from tests.e2e.support import development

FOLDER = ROOT / "docs" / "screenshots"
_WINDOW = (1040, 940)
_FIRST_MS, _LINE_MS, _LAST_MS = 1500, 1100, 4000

_HAS_LINES = """count => document.querySelectorAll("#story li").length >= count
  && !document.querySelector("#story .meter")"""


async def record_call(launched: Browser, url: str) -> bytes:
    """Return an animated picture of a call: a frame for each line of it."""
    page = await open_page(launched, url, size=_WINDOW)
    frames = [(await page.screenshot(), _FIRST_MS)]
    await page.get_by_role("button", name="Start a call").click()
    for count in range(1, 10):
        await page.wait_for_function(_HAS_LINES, arg=count)
        frames.append((await page.screenshot(animations="disabled"), _LINE_MS))
    frames[-1] = (frames[-1][0], _LAST_MS)
    await page.context.close()
    return animated_png(frames)


async def call(page: Page) -> None:
    """Hold a whole call."""
    await page.get_by_role("button", name="Start a call").click()
    await page.get_by_text("The call has ended.").wait_for()


async def take(page: Page, name: str, *, top: str = "body") -> None:
    """Take a picture of the viewport, with an element at its top."""
    await page.mouse.move(0, 0)  # away from elements that change under the mouse
    await page.locator(top).evaluate("element => element.scrollIntoView()")
    await page.wait_for_timeout(500)  # until everything is painted
    await page.screenshot(path=FOLDER / f"{name}.png")


async def calls(launched: Browser, url: str) -> None:
    """A call in a dark window and on a phone."""
    page = await open_page(launched, url, scheme="dark")
    await call(page)
    await take(page, "playground-desktop-dark")
    page = await open_page(launched, url, size=PHONE)
    await call(page)
    await take(page, "playground-phone", top=".conversation")


async def developers(launched: Browser, url: str) -> None:
    """What is folded: a request and its answer, and what the tools see of an attack."""
    page = await open_page(launched, url, developers=True)
    await page.get_by_role("radio", name="Session token").check()
    await page.get_by_role("button", name="Start a session").click()
    await page.locator("#badge[data-state=good]").wait_for()
    await take(page, "playground-desktop-developers", top="#developers")
    await page.get_by_role("button", name="Claim to be another patient").click()
    await page.locator("#tools-badge[data-state=bad]").wait_for()
    await take(page, "playground-desktop-tools", top="#tools")


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
        (FOLDER / "call.png").write_bytes(await record_call(launched, url))
        await calls(launched, url)
        await developers(launched, url)
        await api(launched, url)


if __name__ == "__main__":
    asyncio.run(main())

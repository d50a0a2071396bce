"""The browser of these tests, and the bundle that its pages need."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.playground import STATIC
from tests import npm

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

ROOT = Path(__file__).parents[2]
SDK = ROOT / "sandbox" / "sdk"
BUNDLE = STATIC / "vapi-sdk.js"
AXE = SDK / "node_modules" / "axe-core" / "axe.min.js"
DESKTOP = (1360, 1000)
PHONE = (390, 844)
# Without Chromium's sandbox, which root cannot use, and without background requests.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A simulated microphone and its permission.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


def build_sdk() -> None:
    """Install from the lock file and bundle the SDK, unless the bundle is newer than the file."""
    npm.update(SDK, SDK / "node_modules" / ".package-lock.json")
    npm.update(SDK, BUNDLE, "build")


def chromium() -> str:
    """Return the path of the browser. Raises RuntimeError without one."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        raise RuntimeError("No Chromium: on Debian, apt-get install chromium; or set CHROMIUM")
    return found


@asynccontextmanager
async def browser() -> AsyncIterator["Browser"]:
    """Start the browser, without a window."""
    from playwright.async_api import async_playwright  # it takes a second

    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=chromium(), args=_FLAGS)
        yield launched
        await launched.close()


async def open_page(
    launched: "Browser",
    url: str,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: str = "light",
    developers: bool = False,
) -> "Page":
    """Open the playground, ready to be used; `developers` opens what is folded."""
    context = await launched.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_selector("body[data-ready]")
    if developers:
        for part in ("developers", "errors"):
            await page.evaluate("id => document.getElementById(id).open = true", part)
    return page

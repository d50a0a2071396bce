"""The API page in a browser: authorize with a pasted token, execute, 200; colours of the system."""

import pytest
from aiohttp import ClientSession
from playwright.async_api import Browser, expect

from tests.e2e.support import development

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def pasted_token(url: str) -> str:
    async with ClientSession() as client:
        config = await (await client.get(f"{url}/config.json")).json()
        wanted = {"kind": "valid", "patient": "pt_1001"}
        answer = await client.post(f"{config['lab']}/tokens", json=wanted)
        return str((await answer.json())["token"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_prepared_example_succeeds_with_a_pasted_token(
    chromium: Browser, scheme: str
) -> None:
    async with development() as url:
        origin = url.removesuffix("/playground")
        token = await pasted_token(url)
        context = await chromium.new_context(color_scheme="dark" if scheme == "dark" else "light")
        page = await context.new_page()
        await page.goto(f"{origin}/docs")
        await page.get_by_role("button", name="Authorize").first.click()
        await page.locator("#auth-bearer-value").fill(token)
        await page.get_by_label("Apply credentials").first.click()
        await page.get_by_role("button", name="Close").first.click()
        await (
            page.locator("#operations-Sessions-startVapiSession")
            .get_by_role("button")
            .first.click()
        )
        await page.get_by_role("button", name="Execute").click()
        live = page.locator(".live-responses-table .response-col_status").last
        await expect(live).to_contain_text("200")
        dark = await page.evaluate("document.documentElement.classList.contains('dark-mode')")
        assert dark == (scheme == "dark")

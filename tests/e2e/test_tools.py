"""The fourth step of the playground: what the assistant's tools see, attacks included."""

import json
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from tests.e2e.browser import DESKTOP, PHONE, open_page
from tests.e2e.support import development
from tests.e2e.test_playground import violations

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ATTACKS = [
    ("Claim to be another patient", "signature", "its signature does not verify"),
    ("Send an old proof", "window", "was not valid when this call began"),
    ("Use one proof for two calls", "replayed", "Another call has already used this proof"),
    ("Send no proof", "missing", "has no proof"),
]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Serve development mode, as `make run` does."""
    async with development() as served:
        yield served


async def start_call(page: Page, patient: str = "Amara Okafor", kind: str = "Public key") -> None:
    await page.get_by_role("radio", name=patient).check()
    await page.get_by_role("radio", name=kind).check()
    await page.get_by_role("button", name="Start a session").click()
    await page.get_by_role("button", name="Start the call").click()
    await expect(page.locator("#call-badge")).to_have_text("201 accepted")


@pytest.mark.parametrize("kind", ["Public key", "Session token"])
async def test_the_tool_sees_the_verified_patient(chromium: Browser, url: str, kind: str) -> None:
    page = await open_page(chromium, url, developers=True)
    for patient, patient_id in [("Amara Okafor", "pt_1001"), ("Jonas Weber", "pt_1002")]:
        await start_call(page, patient, kind)
        await page.get_by_role("button", name="Call the tool").click()
        await expect(page.locator("#tools-verdict .head")).to_have_text(
            f"The patient is {patient}."
        )
        await expect(page.locator("#tools-badge")).to_have_text("verified")
        await expect(page.locator("[data-node=tools]")).to_contain_text(f"verified {patient_id}")
        await expect(page.locator("#proof")).to_contain_text(f"the patient: {patient_id}")
        await expect(page.locator("#webhook")).to_contain_text("x-signature: ")
        answer = json.loads(await page.locator("#tool-answer").inner_text())
        assert patient_id in answer["results"][0]["result"]


@pytest.mark.parametrize("kind", ["Public key", "Session token"])
async def test_attacks_are_refused_with_a_reason(chromium: Browser, url: str, kind: str) -> None:
    page = await open_page(chromium, url, developers=True)
    await start_call(page, kind=kind)
    for button, reason, words in ATTACKS:
        await page.get_by_role("button", name=button).click()
        await expect(page.locator("#tools-badge")).to_have_text(f"refused: {reason}")
        await expect(page.locator("#tools-verdict .head")).to_contain_text(words)
        await expect(page.locator("[data-node=tools]")).to_contain_text(f"refused: {reason}")
        assert "error" in json.loads(await page.locator("#tool-answer").inner_text())["results"][0]


async def test_tool_call_needs_a_call(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url, developers=True)
    tool = page.get_by_role("button", name="Call the tool")
    await expect(tool).to_be_disabled()
    await start_call(page)
    await expect(tool).to_be_enabled()
    await page.get_by_role("button", name="With another assistant").click()
    await expect(page.locator("#call-badge")).to_contain_text("refused")
    await expect(tool).to_be_disabled()


async def test_keyboard_alone_is_sufficient(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url, developers=True)
    await start_call(page)
    await page.get_by_role("button", name="With my own prompt").focus()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#tools-badge")).to_have_text("verified")
    for _, reason, _ in ATTACKS:
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator("#tools-badge")).to_have_text(f"refused: {reason}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
async def test_no_accessibility_violations(
    chromium: Browser, url: str, size: tuple[int, int], scheme: str
) -> None:
    page = await open_page(chromium, url, size=size, scheme=scheme, developers=True)
    await start_call(page)
    for button, badge in [("Call the tool", "verified"), ("Send no proof", "refused: missing")]:
        await page.get_by_role("button", name=button).click()
        await expect(page.locator("#tools-badge")).to_have_text(badge)
        assert await violations(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth") == size[0]

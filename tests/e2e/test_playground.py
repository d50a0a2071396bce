"""The playground in a browser: the call with one click, what can go wrong, accessibility."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, expect

from tests.e2e.browser import AXE, DESKTOP, PHONE, open_page
from tests.e2e.screenshots import FOLDER, record_call
from tests.e2e.support import development

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

STORY = [
    "Session",
    "Connected.",
    "Could you tell me my latest lab results?",
    '"patient":"pt_1001"',
    "Your latest result is: Cholesterol 182 mg/dL.",
    "The call has ended.",
]
FAILURES = {
    "The microphone is refused": "The microphone was refused.",
    "No audio from the patient for 15 s": "Vapi heard nothing from the patient",
    "Too many calls at once": "All lines are busy.",
    "The network drops": "The connection was lost.",
    "The clinic ends the call": "The clinic has ended the call.",
    "The session is refused: 401": "Please sign in again.",
    "The session is refused: 403": "is not available for your account.",
    "The session is refused: 429": "Too many tries.",
    "The session is refused: 503": "Please try again in a minute.",
}


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Serve development mode, as `make run` does."""
    async with development() as served:
        yield served


async def story(page: Page) -> str:
    return await page.locator("#story").inner_text()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_one_click_tells_the_whole_story(chromium: Browser, url: str, host: str) -> None:
    page = await (await chromium.new_context()).new_page()
    hosts, console = set[str](), list[str]()

    def note(request: Request) -> None:
        hosts.add(re.split("[/:]+", request.url)[1])

    def keep(message: ConsoleMessage) -> None:
        console.append(f"{message.type}: {message.text}")

    page.on("request", note)
    page.on("console", keep)
    page.on("pageerror", lambda error: console.append(str(error)))
    await page.goto(url.replace("127.0.0.1", host).removesuffix("/playground"))
    await page.get_by_role("button", name="Start a call").click()
    await expect(page.get_by_text("The call has ended.")).to_be_visible(timeout=20_000)
    told = await story(page)
    places = [told.index(text) for text in STORY]
    assert places == sorted(places)
    assert (hosts, console) == ({host}, [])


async def test_patient_hangs_up_at_any_time(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    button = page.locator("#start")
    for moment in ("", "Connected.", "How can I help you?"):
        await button.click()
        await page.locator("#story", has_text=moment).wait_for()
        await expect(button).to_have_text("Hang up")
        await button.click()
        await expect(button).to_have_text("Start a call")
    await expect(page.locator("#story li").last).to_have_text("The call has ended.")


async def test_each_failure_ends_in_a_clear_message(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    for failure, words in FAILURES.items():
        await page.get_by_label("What goes wrong?").select_option(failure)
        await page.get_by_role("button", name="Start a call").click()
        message = page.locator("#story [data-kind=bad]")
        await expect(message).to_contain_text(words, timeout=20_000)
        await expect(page.locator("#start")).to_have_text("Start a call")
        refused = "No session." in await story(page)
        assert ("The call has ended." in await story(page)) != refused, failure


async def test_assistant_of_the_patient(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    choice = page.get_by_label("Which assistant?")
    await expect(choice).to_be_hidden()
    await page.get_by_role("radio", name="Jonas Weber").check()
    await page.get_by_role("button", name="Start a call").click()
    await expect(page.locator("#story")).to_contain_text("Cholesterin 241", timeout=10_000)
    await page.get_by_role("button", name="Hang up").click()
    await page.get_by_role("radio", name="Mei Tanaka").check()
    for language, greeting in (("Deutsch", "Guten Tag"), ("English", "Hello")):
        await choice.select_option(language)
        await page.get_by_role("button", name="Start a call").click()
        await expect(page.locator("#story")).to_contain_text(greeting)
        await page.get_by_role("button", name="Hang up").click()


async def test_consent_is_asked_for(chromium: Browser) -> None:
    async with development(CONSENT_REQUIRED="recording@2026-01") as url:
        page = await open_page(chromium, url)
        agreed = page.get_by_label("I agree: recording, version 2026-01")
        await page.get_by_role("button", name="Start a call").click()
        await expect(page.locator("#story")).to_contain_text("403 CONSENT_REQUIRED: recording@2026")
        await agreed.check()
        await page.get_by_role("button", name="Start a call").click()
        await expect(page.locator("#story")).to_contain_text("Connected.")


async def test_all_answers_are_as_expected(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url, developers=True)
    await page.get_by_role("button", name="Run all").click()
    await expect(page.locator("#tally")).to_have_text("24 of 24 as expected", timeout=90_000)


async def test_attack_over_the_rate_limit_is_explained(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url, developers=True)
    await page.get_by_role("button", name="Start a session").click()
    await page.evaluate(
        """async () => {
          const { config, mint } = await import("/playground/static/lab.js");
          const headers = { Authorization: `Bearer ${await mint("valid", "pt_1001")}` };
          const ask = () => fetch(config.endpoints.public_key, { method: "POST", headers });
          for (let sent = 0; sent < config.rateLimit; sent += 1) await ask();
        }"""
    )
    await page.get_by_role("button", name="Send no proof").click()
    await expect(page.locator("#badge")).to_have_text("429 RATE_LIMITED")
    await expect(page.locator("#verdict .head")).to_contain_text("too many sessions")


async def test_keyboard_only(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    await page.get_by_role("radio", name="Amara Okafor").focus()
    for key in ("ArrowDown", "Tab", "Tab", "Enter"):  # to German, past the failures, to the button
        await page.keyboard.press(key)
    await expect(page.locator("#story")).to_contain_text("pt_1002")
    await page.keyboard.press("Enter")
    await expect(page.locator("#start")).to_have_text("Start a call")
    for key in ("Tab", "Enter", "Tab", "ArrowRight", "Tab", "Enter"):  # unfold, and choose
        await page.keyboard.press(key)
    await expect(page.locator("#badge")).to_have_text("200 OK")
    await expect(page.locator("#body")).to_contain_text('"credentialType": "session_token"')
    await expect(page.locator("#credential")).to_contain_text("can start a web call")


async def test_real_sdk_says_what_it_needs(chromium: Browser, url: str) -> None:
    page = await (await chromium.new_context()).new_page()

    async def without_bundle(route: Any) -> None:
        answer = await route.fetch()
        await route.fulfill(json={**await answer.json(), "realSdk": False})

    await page.route("**/config.json", without_bundle)
    await page.goto(url)
    await page.get_by_text("For developers").click()
    await page.get_by_role("button", name="Start a session").click()
    await expect(page.get_by_role("button", name="Start the call")).to_be_enabled()
    await page.get_by_role("radio", name="real SDK").check()
    await expect(page.locator("#sdk-note")).to_contain_text("make playground-sdk")
    await expect(page.get_by_role("button", name="Start the call")).to_be_disabled()


async def test_phone_shows_the_button_and_stays_with_the_call(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url, size=PHONE)
    button = page.get_by_role("button", name="Start a call")
    await expect(button).to_be_in_viewport(ratio=1)
    await button.click()
    await expect(page.locator("#story")).to_contain_text("Cholesterol", timeout=10_000)
    await expect(page.locator("#story li").last).to_be_in_viewport()
    await expect(page.get_by_role("button", name="Hang up")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
async def test_accessibility(
    chromium: Browser, url: str, size: tuple[int, int], scheme: str
) -> None:
    page = await open_page(chromium, url, size=size, scheme=scheme)
    await page.emulate_media(reduced_motion="reduce")
    assert await violations(page) == []
    await page.get_by_role("button", name="Start a call").click()
    await expect(page.locator("#story")).to_contain_text("Cholesterol", timeout=10_000)
    assert await violations(page) == []
    assert await page.evaluate("document.getAnimations().length") == 0
    await page.get_by_role("button", name="Hang up").click()
    await page.get_by_text("For developers").click()
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


async def test_animated_picture_of_a_call(chromium: Browser, url: str) -> None:
    picture = await record_call(chromium, url)
    assert picture.count(b"fcTL") == 10
    assert len(picture) < 3_000_000
    assert (FOLDER / "call.png").stat().st_size < 3_000_000

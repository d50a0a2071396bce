"""The web recipe, with Vapi's own SDK and a real microphone track in Chromium.

Daily, which carries the audio on its own servers, is replaced by a stand-in.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from rig.service import ASSISTANT_ID, PUBLIC_KEY, sign
from sandbox.serving import bind, origin, serving
from sandbox.vapi.behaviour import Behaviour, Fault
from sandbox.vapi.faults import SWITCH
from tests.e2e.browser import browser
from tests.pems import PROOF
from tests.recipes.support import Backend, backend, blocks, bundle, verified_patient
from tests.recipes.test_react_native import MOMENTS, NO_MICROPHONE, NOT_STARTED
from tests.recipes.test_session import SIGNED_OUT, expired

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ENDED = "The call has ended."
DAILY = "@daily-co/daily-js=./drivers/daily.js"
OFFLINE = "@vapi-ai/web=./vapi.js"


@dataclass(frozen=True, slots=True)
class App:
    """A page with the recipe in it, and what it talks to."""

    url: str
    browser: "Browser"
    backend: Backend

    async def run(self, *tokens: str, function: str = "run", **more: Any) -> Any:
        """Call the driver's function in a new page; give its report."""
        page = await self.browser.new_page()
        await page.goto(self.url)
        options = self.backend.options(*tokens, **more)
        report = await page.evaluate(f"options => {function}(options)", options)
        await page.close()
        return report


@asynccontextmanager
async def app(folder: Path, alias: str = DAILY, **variables: str) -> AsyncIterator[App]:
    """Serve the page on an origin of its own, and start a browser, the service and the stand-in."""
    script = bundle(
        folder, "web", "--format=esm", "--charset=utf8", f"--alias:{alias}"
    ).read_bytes()
    addresses = dict[str, str]()

    async def page(_: web.Request) -> web.Response:
        html = '<!doctype html><script type="module" src="/app.js"></script>'
        return web.Response(text=html, content_type="text/html", headers=policy(addresses))

    async def app_js(_: web.Request) -> web.Response:
        return web.Response(body=script, content_type="text/javascript", charset="utf-8")

    pages = web.Application()
    pages.router.add_get("/", page)
    pages.router.add_get("/app.js", app_js)
    with bind() as listener:
        url = origin(listener)
        async with (
            serving(pages, listener),
            backend(CORS_ALLOWED_ORIGINS=url, **variables) as service,
            browser() as launched,
        ):
            room = service.vapi_url.replace("http", "ws")
            addresses["https://voice.example.com"] = service.origin
            addresses["https://api.vapi.ai"] = f"{service.vapi_url} {room}"
            yield App(url, launched, service)


def policy(addresses: Mapping[str, str]) -> dict[str, str]:
    """Return the page's Content Security Policy of the recipe, with the addresses of the test."""
    (text,) = blocks("web", "text")
    name, _, value = text.strip().partition(": ")
    for documented, address in addresses.items():
        assert documented in value
        value = value.replace(documented, address)
    return {name: value}


async def test_call_connects(folder: Path) -> None:
    async with app(folder, VAPI_CREDENTIAL="session_token") as page:
        report = await page.run(expired(), sign(), patientId="pt_1")
        (call,) = page.backend.calls
    assert report == {"shown": ["Connecting…", "Connected."], "microphones": ["live"]}
    assert (call.credential_type, call.call.assistant_id) == ("session_token", ASSISTANT_ID)


async def test_call_connects_without_an_account(folder: Path) -> None:
    async with app(folder, OFFLINE) as page:
        report = await page.run(sign())
        (call,) = page.backend.calls
    assert report["shown"] == ["Connecting…", "Connected."]
    assert call.call.started_at


async def test_consent_goes_into_the_request(folder: Path) -> None:
    async with app(folder, OFFLINE, CONSENT_REQUIRED="recording@2026-01") as page:
        agreed = await page.run(sign(), consent={"recording": "2026-01"})
        outdated = await page.run(sign(), consent={"recording": "2025-07"})
    assert agreed["shown"][-1] == "Connected."
    assert outdated["shown"][-1] == "Please agree to the terms of the voice assistant first."


async def test_refused_microphone_asks_for_no_session(folder: Path) -> None:
    async with app(folder) as page:
        report = await page.run(sign(), refuseMicrophone=True)
        assert len(page.backend.calls) == 0
    assert report["shown"] == ["Connecting…", NO_MICROPHONE]


async def test_tools_can_verify_the_patient(folder: Path) -> None:
    async with app(folder, **PROOF) as page:
        await page.run(sign())
        (call,) = page.backend.calls
        assert await verified_patient(page.backend, call.call) == "pt_1"


async def test_hanging_up_leaves_no_live_microphone(folder: Path) -> None:
    moments = [*MOMENTS, "connected"]
    async with app(folder) as page:
        reports = {moment: await page.run(sign(), hangUpAt=moment) for moment in moments}
    for moment, report in reports.items():
        assert "live" not in report["microphones"], moment
        assert report["shown"][-1] == ENDED, moment
    opened = [moment for moment, report in reports.items() if report["microphones"]]
    assert opened == ["microphone open", "joined", "connected"]


async def test_hanging_up_needs_no_progress_events(folder: Path) -> None:
    async with app(folder) as page:
        report = await page.run(sign(), hangUpAt="call created", withoutProgress=True)
    assert report["microphones"] == ["ended"]


async def test_sdk_alone_leaves_a_live_microphone(folder: Path) -> None:
    """Shows why the recipe has its own `stop`; fails when the SDK has changed."""
    options = {"apiKey": PUBLIC_KEY, "assistantId": ASSISTANT_ID}
    async with app(folder) as page:
        report = await page.run(function="runWithoutRecipe", hangUpAt="call created", **options)
    assert report["microphones"] == ["live"]


async def test_failures_have_texts_for_patients(folder: Path) -> None:
    # Without health checks the service does not notice, and the app meets Vapi's refusal.
    async with app(folder, VAPI_CHECK_SECONDS="0") as page:
        signed_out = await page.run("no token")
        unjoined = await page.run(sign(), joinFault="no route")
        page.backend.vapi[SWITCH].behaviour = Behaviour(Fault.STATUS, 401)
        refused = await page.run(sign())
    assert signed_out["shown"] == ["Connecting…", SIGNED_OUT]
    assert unjoined["shown"] == ["Connecting…", NOT_STARTED]
    assert refused["shown"] == ["Connecting…", NOT_STARTED]

"""The web recipe, with Vapi's own SDK and a real microphone track in Chromium.

Daily, which carries the audio on its own servers, is replaced by a stand-in.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser

from rig.service import ASSISTANT_ID, PUBLIC_KEY, sign
from sandbox.serving import bind, origin, serving
from sandbox.vapi.behaviour import Behaviour, Fault
from sandbox.vapi.faults import SWITCH
from tests.e2e.browser import browser
from tests.recipes.support import Backend, backend, bundle, verified_patient
from tests.recipes.test_react_native import MOMENTS, NOT_STARTED
from tests.recipes.test_session import SIGNED_OUT, expired
from tests.server.config.test_proof_key import PROOF

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ENDED = "The call has ended."


@dataclass(frozen=True, slots=True)
class App:
    """A page with the recipe in it, and what it talks to."""

    url: str
    browser: Browser
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
async def app(folder: Path, **variables: str) -> AsyncIterator[App]:
    """Serve the page on an origin of its own, and start a browser, the service and the stand-in."""
    daily = "--alias:@daily-co/daily-js=./drivers/daily.js"
    script = bundle(folder, "web", "--format=esm", "--charset=utf8", daily).read_text()
    html = f'<!doctype html><meta charset="utf-8"><script type="module">{script}</script>'

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    pages = web.Application()
    pages.router.add_get("/", page)
    with bind() as listener:
        url = origin(listener)
        async with (
            serving(pages, listener),
            backend(CORS_ALLOWED_ORIGINS=url, **variables) as service,
            browser() as launched,
        ):
            yield App(url, launched, service)


async def test_call_connects(folder: Path) -> None:
    async with app(folder, VAPI_CREDENTIAL="session_token") as page:
        report = await page.run(expired(), sign(), patientId="pt_1")
        (call,) = page.backend.calls
    assert report == {"shown": ["Connecting…", "Connected."], "microphones": ["live"]}
    assert (call.credential_type, call.call.assistant_id) == ("session_token", ASSISTANT_ID)


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

"""Vapi's web SDK in Chromium, with credentials of the service and with others."""

import asyncio
import sys
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from rig.redis_server import RedisServer
from rig.service import ASSISTANT_ID, ORG_ID, PRIVATE_KEY, PUBLIC_KEY
from sandbox.vapi.behaviour import Behaviour, Fault
from sandbox.vapi.calls import CallStore
from sandbox.vapi.faults import SWITCH
from tests.e2e.browser import ROOT, open_page
from tests.e2e.support import Clinic, clinic
from tests.sandbox.vapi.support import token, tokenless

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def ask(page: Page) -> None:
    await page.get_by_role("radio", name="real SDK").check()
    await page.get_by_role("button", name="Start a session").click()
    await expect(page.locator("#badge")).to_have_text("200 OK")


async def start(page: Page, how: str = "Start the call") -> None:
    await page.get_by_role("button", name=how).click()


async def refused(page: Page, words: str, status: int) -> None:
    await expect(page.locator("#call-verdict .head")).to_have_text(words)
    await expect(page.locator("#call-badge")).to_have_text(f"{status} refused")


@pytest.mark.parametrize("credential", ["public_key", "session_token"])
async def test_issued_credential_starts_a_call(chromium: Browser, credential: str) -> None:
    async with clinic(VAPI_CREDENTIAL=credential) as here:
        page = await open_page(chromium, here.page, developers=True)
        await ask(page)
        await start(page)
        await expect(page.locator("#call-verdict .head")).to_have_text("The call was accepted.")
    (call,) = here.calls
    assert (call.credential_type, call.call.assistant_id) == (credential, ASSISTANT_ID)
    # CORS is real: the page is neither the service's nor Vapi's.
    assert here.page.startswith(call.origin)
    assert not here.service.startswith(call.origin)


RESTRICTED = [
    ("With an expired session token", "The session token has expired.", 401),
    ("With another assistant", "This credential does not allow that assistant.", 403),
    ("With my own prompt", "This credential does not allow a prompt of your own.", 403),
]


async def test_session_token_is_restricted(chromium: Browser) -> None:
    async with clinic(VAPI_CREDENTIAL="session_token") as here:
        page = await open_page(chromium, here.page, developers=True)
        await ask(page)
        for how, words, status in RESTRICTED:
            await start(page, how)
            await refused(page, words, status)
    assert len(here.calls) == 0


def limited(**limits: Any) -> str:
    return token(key=PRIVATE_KEY, org=ORG_ID, **limits)


INVALID_KEY = (
    "Invalid Key. Hot tip, you may be using the private key instead of the public key,"
    " or vice versa."
)
TOKEN_MISSING = "JWT doesn't permit access. Hot tip, you may be missing `token` in your JWT."
OTHER = "55555555-5555-4555-8555-555555555555"
ONE_ASSISTANT = limited(allowedAssistantIds=[ASSISTANT_ID])
NO_TRANSIENT = limited(allowTransientAssistant=False)
UNKNOWN_OVERRIDE = "assistantOverrides.property greeting should not exist"
UNKNOWN_SQUAD = "Stand-in: what Vapi does with `squadId` here is unknown; see docs/vapi.md"
UNKNOWN_ASSISTANT = f"Couldn't Get Assistant. `assistantId` {OTHER} Does Not Exist."
# A credential, the arguments of the SDK's `start`, and Vapi's answer.
REFUSALS: list[tuple[str, list[Any], int, str]] = [
    ("rubbish", [ASSISTANT_ID], 401, INVALID_KEY),
    (PRIVATE_KEY, [ASSISTANT_ID], 401, INVALID_KEY),
    (tokenless(PRIVATE_KEY, ORG_ID), [ASSISTANT_ID], 403, TOKEN_MISSING),
    (ONE_ASSISTANT, [OTHER], 403, f"Key doesn't allow assistantId '{OTHER}'"),
    (NO_TRANSIENT, [{"name": "own"}], 403, "Key doesn't allow transient assistant"),
    (PUBLIC_KEY, [OTHER], 400, UNKNOWN_ASSISTANT),
    (PUBLIC_KEY, ["nurse"], 400, "assistantId must be a UUID"),
    (PUBLIC_KEY, [ASSISTANT_ID, {"greeting": "Hello"}], 400, UNKNOWN_OVERRIDE),
    (PUBLIC_KEY, [ASSISTANT_ID, None, OTHER], 403, UNKNOWN_SQUAD),
    (PUBLIC_KEY, [ASSISTANT_ID], 400, "Over Concurrency Limit"),
]


async def test_refusals_show_the_text_of_vapi(chromium: Browser) -> None:
    async with clinic(calls=CallStore(limit=0)) as here:
        page = await open_page(chromium, here.page, developers=True)
        for credential, options, status, text in REFUSALS:
            await call(page, credential, *options)
            await expect(page.locator("#call-badge")).to_have_text(f"{status} refused")
            await expect(page.locator("#call-verdict code")).to_have_text(f"Vapi: {text}")
        here.vapi[SWITCH].behaviour = Behaviour(Fault.STATUS, 429)
        await call(page, PUBLIC_KEY, ASSISTANT_ID)
        await expect(page.locator("#call-verdict code")).to_have_text("Vapi: Rate limit exceeded")
    assert len(here.calls) == 0


async def call(page: Page, credential: str, *options: Any) -> None:
    """Start a call with the SDK's own arguments, through the page's own code."""
    await page.evaluate(
        """async ([credential, options]) => {
          const { call, loadSdk } = await import("/playground/static/call.js");
          const { config } = await import("/playground/static/lab.js");
          await call(await loadSdk("real"), config.vapiUrl, credential, ...options);
        }""",
        [credential, options],
    )


async def test_session_token_is_limited_to_allowed_origins(chromium: Browser) -> None:
    elsewhere = "https://clinic.example"
    async with clinic(VAPI_CREDENTIAL="session_token", VAPI_ALLOWED_ORIGINS=elsewhere) as here:
        page = await open_page(chromium, here.page, developers=True)
        await ask(page)
        await start(page)
        await refused(page, "This credential does not allow this web site.", 403)
    assert len(here.calls) == 0


async def test_unlisted_origin_gets_no_session(chromium: Browser) -> None:
    async with clinic(CORS_ALLOWED_ORIGINS="https://clinic.example") as here:
        page = await open_page(chromium, here.page, developers=True)
        await page.get_by_role("button", name="Start a session").click()
        await expect(page.locator("#badge")).to_have_text("no answer")
        await expect(page.locator("#verdict")).to_contain_text("CORS_ALLOWED_ORIGINS")


@pytest.mark.redis
async def test_revoked_patient_gets_no_session(
    chromium: Browser, redis_server: RedisServer
) -> None:
    async with clinic(REDIS_URL=redis_server.url) as here:
        page = await open_page(chromium, here.page, developers=True)
        await ask(page)
        await revoke(here, "pt_1001")
        await page.get_by_role("button", name="Start a session").click()
        await expect(page.locator("#badge")).to_have_text("401 AUTH_TOKEN_REVOKED")
        revoked = "The token or the patient was revoked."
        await expect(page.locator("#verdict .head")).to_have_text(revoked)
        await expect(page.get_by_role("button", name="Start the call")).to_be_disabled()
    assert len(here.calls) == 0


async def revoke(here: Clinic, patient: str) -> None:
    command = (sys.executable, "-m", "server", "revoke", "--patient", patient)
    done = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={**here.environ})
    assert await done.wait() == 0

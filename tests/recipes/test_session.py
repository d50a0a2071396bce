"""docs/clients/session.js, run in Node.js against the service."""

import re
from pathlib import Path
from time import time
from typing import Any

import pytest

from middlewares.errors import ErrorCode
from rig.service import ASSISTANT_ID, PUBLIC_KEY, claims, sign
from sandbox.serving import bind, origin
from tests.recipes.support import Backend, backend, run_node

pytestmark = pytest.mark.e2e

SIGNED_OUT = "Please sign in again."
NOT_OFFERED = "The voice assistant is not available for your account."
NOT_TODAY = "The voice assistant is not available today."
APP_BUG = "Something is wrong with the app. Please tell your clinic."
POOR_CONNECTION = "The connection is poor. Please try again."
LATER = "The voice assistant cannot be reached. Please try again in a minute."
# For errors without Retry-After.
TEXTS = {
    "INVALID_REQUEST": APP_BUG,
    "INVALID_PATIENT_CONTEXT": APP_BUG,
    "AUTH_TOKEN_MISSING": SIGNED_OUT,
    "AUTH_TOKEN_INVALID": SIGNED_OUT,
    "AUTH_TOKEN_EXPIRED": SIGNED_OUT,
    "AUTH_TOKEN_REVOKED": "Your access has ended. Please sign in again or ask your clinic.",
    "FORBIDDEN": NOT_OFFERED,
    "INSUFFICIENT_SCOPE": NOT_OFFERED,
    "PATIENT_MISMATCH": APP_BUG,
    "ASSISTANT_NOT_ALLOWED": NOT_OFFERED,
    "CONSENT_REQUIRED": "Please agree to the terms of the voice assistant first.",
    "NOT_FOUND": APP_BUG,
    "METHOD_NOT_ALLOWED": APP_BUG,
    "REQUEST_TIMEOUT": POOR_CONNECTION,
    "PAYLOAD_TOO_LARGE": APP_BUG,
    "UNSUPPORTED_MEDIA_TYPE": APP_BUG,
    "RATE_LIMITED": "Too many tries. Please wait 60 seconds.",
    "CALL_LIMIT_REACHED": "You cannot start another call now. Please try again later.",
    "INTERNAL_ERROR": LATER,
    "VAPI_SESSION_FAILED": NOT_TODAY,
    "AUTH_UNAVAILABLE": LATER,
    "AUDIT_UNAVAILABLE": LATER,
    "SESSION_TIMEOUT": LATER,
}


async def get_session(folder: Path, service: Backend, *tokens: str, **more: Any) -> Any:
    """Run `getSession` once; give its driver's report."""
    return await run_node(folder / "drivers/session.mjs", service.options(*tokens, **more))


def expired() -> str:
    now = int(time())
    return sign(claims(iat=now - 600, exp=now - 300))


async def test_session_is_returned(folder: Path) -> None:
    async with backend() as service:
        report = await get_session(folder, service, sign(), patientId="pt_1")
    assert report["session"]["apiKey"] == PUBLIC_KEY
    assert report["refreshes"] == 0


async def test_expired_token_is_refreshed_once(folder: Path) -> None:
    async with backend() as service:
        renewed = await get_session(folder, service, expired(), sign())
        still_expired = await get_session(folder, service, expired(), expired())
    assert (renewed["refreshes"], renewed["session"]["assistantId"]) == (1, ASSISTANT_ID)
    assert (still_expired["refreshes"], still_expired["code"]) == (1, "AUTH_TOKEN_EXPIRED")
    assert still_expired["words"] == SIGNED_OUT


async def test_short_retry_after_is_waited_for(folder: Path) -> None:
    async with backend(RATE_LIMIT="1/second") as service:
        reports = [await get_session(folder, service, sign()) for _ in range(4)]
    assert all("session" in report for report in reports)


async def test_long_retry_after_is_not_waited_for(folder: Path) -> None:
    async with backend(RATE_LIMIT="1/hour") as service:
        await get_session(folder, service, sign())
        report = await get_session(folder, service, sign())
    assert (report["code"], report["status"]) == ("RATE_LIMITED", 429)
    assert report["requests"] == 1
    assert re.fullmatch(r"Too many tries\. Please wait \d+ seconds\.", report["words"])


async def test_invalid_token_is_not_retried(folder: Path) -> None:
    async with backend() as service:
        forged = sign(key="another secret, long enough to sign")
        report = await get_session(folder, service, forged)
    assert (report["code"], report["words"]) == ("AUTH_TOKEN_INVALID", SIGNED_OUT)
    assert report["requests"] == 1
    assert report["requestId"]


@pytest.mark.parametrize(
    ("variables", "requests", "text"),
    [
        ({"VAPI_BASE_URL": "http://127.0.0.1:1"}, 2, LATER),
        ({"VAPI_API_KEY": "another-key"}, 1, NOT_TODAY),
    ],
    ids=["outage", "misconfigured"],
)
async def test_only_an_outage_of_vapi_is_retried(
    folder: Path, variables: dict[str, str], requests: int, text: str
) -> None:
    async with backend(**variables) as service:
        report = await get_session(folder, service, sign())
    assert (report["code"], report["requests"]) == ("VAPI_SESSION_FAILED", requests)
    assert report["words"] == text


@pytest.mark.parametrize(
    ("path", "patient", "code"),
    [
        ("", "pt_2", "PATIENT_MISMATCH"),
        ("", "not an id", "INVALID_PATIENT_CONTEXT"),
        ("", "x" * 20_000, "PAYLOAD_TOO_LARGE"),
        ("/other", "pt_1", "NOT_FOUND"),
    ],
)
async def test_fault_of_the_app_is_not_retried(
    folder: Path, path: str, patient: str, code: str
) -> None:
    async with backend() as service:
        url = service.url + path
        report = await get_session(folder, service, sign(), url=url, patientId=patient)
    assert (report["code"], report["requests"]) == (code, 1)
    assert report["words"] == APP_BUG


async def test_every_code_has_a_text(folder: Path) -> None:
    driver = folder / "drivers/words.mjs"
    texts = await run_node(driver, {"codes": list(TEXTS), "retryAfter": None})
    outage = await run_node(driver, {"codes": ["VAPI_SESSION_FAILED"], "retryAfter": 2})
    assert texts == TEXTS
    assert set(ErrorCode) <= TEXTS.keys()
    assert outage["VAPI_SESSION_FAILED"] == LATER


async def test_no_answer_is_a_poor_connection(folder: Path) -> None:
    async with backend() as service:
        with bind() as listener:  # it accepts connections and never answers
            url = origin(listener)
            silent = await get_session(folder, service, sign(), url=url, timeoutMs=200)
        refused = await get_session(folder, service, sign(), url=url)
    assert silent["code"] == "TIMEOUT"
    assert refused["code"] == "UNREACHABLE"
    assert refused["words"] == POOR_CONNECTION

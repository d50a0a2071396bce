"""The sandbox's Vapi class (`/playground/vapi.js`) in a browser, with calls at the stand-in."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from rig.waiting import eventually
from tests.e2e.browser import open_page
from tests.e2e.support import clinic, development
from tests.pems import PROOF

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

RUN = (Path(__file__).parent / "run_call.js").read_text()
FAREWELL = "You are welcome. Goodbye."


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Serve development mode, as `make run` does."""
    async with development() as served:
        yield served


async def run(page: Page, **options: Any) -> Any:
    return await page.evaluate(RUN, options)


def messages(report: Any, kind: str) -> list[Any]:
    sent = [value for name, value in report["events"] if name == "message"]
    return [message for message in sent if message["type"] == kind]


def names(report: Any) -> list[str]:
    return [name for name, _ in report["events"]]


def ended_reason(report: Any) -> str:
    return str(messages(report, "status-update")[-1]["endedReason"])


async def test_conversation_with_a_verified_tool(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    report = await run(page, until=FAREWELL, then="stop")
    said = [
        (m["role"], m["transcript"])
        for m in messages(report, "transcript")
        if m["transcriptType"] == "final"
    ]
    assert [role for role, _ in said] == ["assistant", "user", "assistant", "user", "assistant"]
    assert said[2][1] == "Your latest result is: Cholesterol 182 mg/dL."
    (result,) = messages(report, "tool-calls-result")
    assert '"patient":"pt_1001"' in result["toolCallResult"]["result"]
    happened = names(report)
    assert happened.count("speech-start") == happened.count("speech-end") == 3
    assert happened.index("call-start") < happened.index("speech-start")
    assert "volume-level" in happened
    assert happened.count("call-end") == 1
    assert "error" not in happened
    assert ended_reason(report) == "customer-ended-call"


async def test_tool_refuses_a_call_without_proof(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    report = await run(page, until="tool-calls-result", then="stop", unproven=True)
    (result,) = messages(report, "tool-calls-result")
    assert result["toolCallResult"]["error"].startswith("missing")


async def test_calls_end_by_the_clinic_and_by_time(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    ended = await run(page, failure="ended-by-clinic", until="call-end")
    assert ended_reason(ended) == "assistant-ended-call"
    limited = await run(page, overrides={"maxDurationSeconds": 10}, until="call-end")
    assert ended_reason(limited) == "exceeded-max-duration"
    for report in (ended, limited):
        (error,) = [value for name, value in report["events"] if name == "error"]
        assert error["error"]["error"] == {"type": "ejected", "msg": "Meeting has ended"}
        assert names(report).count("call-end") == 1


@pytest.mark.parametrize("failure", ["no-audio", "microphone-refused"])
async def test_call_without_audio_ends(chromium: Browser, url: str, failure: str) -> None:
    page = await open_page(chromium, url)
    overrides = {"customerJoinTimeoutSeconds": 1}
    report = await run(page, failure=failure, overrides=overrides, until="call-end")
    assert "call-start" not in names(report)
    assert ("camera-error" in names(report)) == (failure == "microphone-refused")
    assert ended_reason(report).endswith("assistant-did-not-receive-customer-audio")


async def test_network_drop_ends_the_call(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    report = await run(page, failure="network-drop", until="call-end")
    happened = names(report)
    assert happened.index("network-connection") < happened.index("error")
    (error,) = [value for name, value in report["events"] if name == "error"]
    assert error["error"]["error"]["type"] == "connection-error"


async def test_place_is_free_once_the_page_vanishes(chromium: Browser) -> None:
    async with clinic(VAPI_ALLOWED_ORIGINS="") as here:
        page = await open_page(chromium, here.page)
        await run(page, until="call-start")
        assert len(here.calls.active) == 1
        await page.context.close()

        async def is_free() -> bool:
            return not here.calls.active

        await eventually(is_free)


async def test_call_monitor_ends_a_call(chromium: Browser) -> None:
    monitor = {"CALL_MONITOR": "enforce", "CALL_MONITOR_SECONDS": "1", "CALL_LIMITS": "active:1"}
    async with clinic(calls=None, VAPI_ALLOWED_ORIGINS="", **monitor, **PROOF) as here:
        page = await open_page(chromium, here.page)
        for _ in range(2):  # the monitor ends the older one
            await run(page, until="call-start")
        first = "() => held[0].events.some(([name]) => name === 'call-end')"
        await page.wait_for_function(first, timeout=30_000)
        report = await page.evaluate("({ events: held[0].events })")
        assert ended_reason(report) == "assistant-ended-call"
        assert len(here.calls.active) == 1


async def test_refused_start_resolves_to_null(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    report = await run(page, failure="over-concurrency-limit", until="error")
    assert report["call"] is None
    (error,) = [value for name, value in report["events"] if name == "error"]
    assert error["error"]["error"] == {
        "message": "Over Concurrency Limit",
        "error": "Bad Request",
        "statusCode": 400,
    }
    assert names(report)[-2:] == ["call-start-failed", "error"]


async def test_microphone_that_was_opened_is_released(chromium: Browser, url: str) -> None:
    page = await open_page(chromium, url)
    await page.context.grant_permissions(["microphone"])
    await page.evaluate(
        """() => {
          globalThis.tracks = [];
          const devices = navigator.mediaDevices;
          const open = devices.getUserMedia.bind(devices);
          devices.getUserMedia = async (wanted) => {
            const stream = await open(wanted);
            tracks.push(...stream.getTracks());
            return stream;
          };
        }"""
    )
    await run(page, until="call-start")
    states = "tracks.map(({ readyState }) => readyState)"
    assert await page.evaluate(states) == ["live"]
    await page.evaluate("vapi.stop()")
    assert await page.evaluate(states) == ["ended"]

"""The React Native recipe, with React and Vapi's own SDK in Node.js; a stand-in replaces Daily."""

import subprocess
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from rig.service import ASSISTANT_ID, sign
from sandbox.vapi.behaviour import Behaviour, Fault
from sandbox.vapi.faults import SWITCH
from tests.pems import PROOF
from tests.recipes.support import (
    Backend,
    backend,
    bundle,
    lay_out,
    run_node,
    verified_patient,
)
from tests.recipes.test_session import SIGNED_OUT, expired

pytestmark = pytest.mark.e2e

NOT_STARTED = "The call could not be started. Please try again."
NO_MICROPHONE = "Please allow the microphone in the settings, then call again."
# While the call is connecting, and afterwards.
MOMENTS = [
    "tap",
    "session",
    "call created",
    "call object",
    "joining",
    "microphone open",
    "joined",
]


@pytest.fixture
def app(packages: None, tmp_path: Path) -> Path:
    """Return the bundled driver. Metro, too, gives the class itself for a default import."""
    lay_out(tmp_path, module=False)
    daily = "--alias:@daily-co/react-native-daily-js=./drivers/daily.js"
    return bundle(tmp_path, "react-native", "--platform=node", "--format=cjs", daily)


# Node.js 20 has WebSockets behind this flag; React Native and later versions have them.
WEBSOCKETS = "--experimental-websocket"


@pytest.fixture
def offline_app(packages: None, tmp_path: Path) -> Path:
    """Return the driver with the sandbox's class in place of Vapi's."""
    if subprocess.run(["node", WEBSOCKETS, "-e", "0"], check=False).returncode:
        pytest.skip("needs Node.js 20.10 or later")
    lay_out(tmp_path, module=False)
    sdk = "--alias:@vapi-ai/react-native=./vapi.js"
    quiet = "--log-override:empty-import-meta=silent"
    return bundle(tmp_path, "react-native", "--platform=node", "--format=cjs", sdk, quiet)


async def run(app: Path, service: Backend, *tokens: str, **more: Any) -> Any:
    return await run_node(app, service.options(*tokens, **more))


def states(report: Any) -> list[str]:
    """Return the states in their order, each change once."""
    return [state for state, _ in groupby(state for state, _ in report["states"])]


async def test_call_connects_once(app: Path) -> None:
    async with backend(VAPI_CREDENTIAL="session_token") as service:
        report = await run(app, service, expired(), sign())
        (call,) = service.calls
    assert states(report) == ["idle", "connecting", "talking"]
    assert report["microphones"] == ["live"]
    assert (call.credential_type, call.call.assistant_id) == ("session_token", ASSISTANT_ID)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_hanging_up_leaves_no_live_microphone(app: Path, moment: str) -> None:
    async with backend() as service:
        report = await run(app, service, sign(), hangUpAt=moment)
    assert "live" not in report["microphones"]
    assert report["states"][-1] == ["idle", ""]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_leaving_the_screen_leaves_no_live_microphone(app: Path, moment: str) -> None:
    async with backend() as service:
        report = await run(app, service, sign(), leaveAt=moment)
    assert "live" not in report["microphones"]


@pytest.mark.parametrize("moment", MOMENTS[:3])
async def test_hanging_up_early_opens_no_microphone(app: Path, moment: str) -> None:
    async with backend() as service:
        report = await run(app, service, sign(), hangUpAt=moment)
    assert report["microphones"] == []


async def test_hanging_up_needs_no_progress_events(app: Path) -> None:
    async with backend() as service:
        options = {"hangUpAt": "call created", "withoutProgress": True}
        report = await run(app, service, sign(), **options)
    assert report["microphones"] == ["ended"]


async def test_tools_can_verify_the_patient(app: Path) -> None:
    async with backend(**PROOF) as service:
        await run(app, service, sign())
        (call,) = service.calls
        assert await verified_patient(service, call.call) == "pt_1"


async def test_call_connects_without_an_account(offline_app: Path) -> None:
    async with backend() as service:
        options = service.options(sign(), until="talking")
        report = await run_node(offline_app, options, WEBSOCKETS)
        (call,) = service.calls
    assert states(report) == ["idle", "connecting", "talking"]
    assert call.call.started_at


async def test_refused_microphone_asks_for_no_session(app: Path) -> None:
    async with backend() as service:
        report = await run(app, service, sign(), refuseMicrophone=True)
        assert len(service.calls) == 0
    assert report["states"][-1] == ["idle", NO_MICROPHONE]


async def test_text_of_a_failed_join_stays(app: Path) -> None:
    async with backend() as service:
        report = await run(app, service, sign(), joinFault="no route")
    assert report["states"][-1] == ["idle", NOT_STARTED]


async def test_refusals_have_texts_for_patients(app: Path) -> None:
    # Without health checks the service does not notice, and the app meets Vapi's refusal.
    async with backend(VAPI_CHECK_SECONDS="0") as service:
        signed_out = await run(app, service, "no token")
        service.vapi[SWITCH].behaviour = Behaviour(Fault.STATUS, 401)
        refused = await run(app, service, sign())
        assert len(service.calls) == 0
    assert signed_out["states"][-1] == ["idle", SIGNED_OUT]
    assert refused["states"][-1] == ["idle", NOT_STARTED]

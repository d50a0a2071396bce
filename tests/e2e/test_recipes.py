"""The JavaScript of docs/clients, run as it stands there against the service."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

import pytest
from aiohttp import web

from middlewares.api_errors import ErrorCode
from sandbox.serving import bind, origin, serving
from sandbox.vapi.app import CALLS, create_vapi
from sandbox.vapi.faults import SWITCH, Behaviour, Fault
from tests.e2e.browser import ROOT, SDK
from tests.support import (
    ASSISTANT_ID,
    ORG_ID,
    PATH,
    PRIVATE_KEY,
    PUBLIC_KEY,
    claims,
    make_settings,
    running,
    sign,
)

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("sdk")]

CLIENTS = ROOT / "docs" / "clients"
DRIVERS = Path(__file__).parent / "recipes"
SIGNED_OUT = "Please sign in again."
NOT_OFFERED = "The voice assistant is not available for your account."
NOT_TODAY = "The voice assistant is not available today."
APP_BUG = "Something is wrong with the app. Please tell your clinic."
POOR_CONNECTION = "The connection is poor. Please try again."
LATER = "The voice assistant cannot be reached. Please try again in a minute."
# When the service does not say how long to wait.
WORDS = {
    "INVALID_REQUEST": APP_BUG,
    "INVALID_PATIENT_CONTEXT": APP_BUG,
    "AUTH_TOKEN_MISSING": SIGNED_OUT,
    "AUTH_TOKEN_INVALID": SIGNED_OUT,
    "AUTH_TOKEN_EXPIRED": SIGNED_OUT,
    "AUTH_TOKEN_REVOKED": "Your access has ended. Please sign in again or ask your clinic.",
    "FORBIDDEN": NOT_OFFERED,
    "INSUFFICIENT_SCOPE": NOT_OFFERED,
    "PATIENT_MISMATCH": APP_BUG,
    "NOT_FOUND": APP_BUG,
    "METHOD_NOT_ALLOWED": APP_BUG,
    "REQUEST_TIMEOUT": POOR_CONNECTION,
    "PAYLOAD_TOO_LARGE": APP_BUG,
    "UNSUPPORTED_MEDIA_TYPE": APP_BUG,
    "RATE_LIMITED": "Too many tries. Please wait 60 seconds.",
    "INTERNAL_ERROR": LATER,
    "VAPI_SESSION_FAILED": NOT_TODAY,
    "AUTH_UNAVAILABLE": LATER,
    "SESSION_TIMEOUT": LATER,
}


@dataclass(frozen=True, slots=True)
class Recipes:
    """A folder in which recipes run, and what they run against."""

    folder: Path
    url: str
    vapi: web.Application
    vapi_url: str

    async def run(self, driver: str, *tokens: str, **options: Any) -> Any:
        """Run a driver in Node.js; give the report that it prints."""
        options = {"url": self.url, "tokens": tokens, "vapiUrl": self.vapi_url, **options}
        command = ("node", str(self.folder / driver), json.dumps(options))
        node = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await node.communicate()
        assert node.returncode == 0
        return json.loads(output)


@asynccontextmanager
async def kitchen(folder: Path, recipe: str = "", **variables: str) -> AsyncIterator[Recipes]:
    """Lay the recipe out beside its driver, and start the service with a stand-in for Vapi."""
    lay_out(folder, recipe)
    vapi = create_vapi(
        private_key=PRIVATE_KEY, public_key=PUBLIC_KEY, org_id=ORG_ID, assistant_id=ASSISTANT_ID
    )
    with bind() as port:
        variables = {"VAPI_BASE_URL": origin(port), "VAPI_CHECK_SECONDS": "1", **variables}
        async with serving(vapi, port), running(make_settings(**variables)) as service:
            yield Recipes(folder, service.url + PATH, vapi, origin(port))


def lay_out(folder: Path, recipe: str) -> None:
    shutil.copytree(DRIVERS, folder, dirs_exist_ok=True)
    shutil.copy(CLIENTS / "session.js", folder)
    (folder / "package.json").write_text('{"type": "module"}')
    packages = SDK / "node_modules" if recipe == "web" else DRIVERS / "stubs"
    (folder / "node_modules").symlink_to(packages)
    if recipe:
        text = (CLIENTS / f"{recipe}.md").read_text()
        (code,) = re.findall(r"^```js\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        (folder / "recipe.js").write_text(code)


def expired() -> str:
    now = int(time())
    return sign(claims(iat=now - 600, exp=now - 300))


async def test_a_session_is_got(tmp_path: Path) -> None:
    async with kitchen(tmp_path) as recipes:
        report = await recipes.run("session.mjs", sign(), patientId="pt_1")
    assert report["session"]["apiKey"] == PUBLIC_KEY
    assert report["refreshes"] == 0


async def test_an_expired_token_is_refreshed_once(tmp_path: Path) -> None:
    async with kitchen(tmp_path) as recipes:
        renewed = await recipes.run("session.mjs", expired(), sign())
        in_vain = await recipes.run("session.mjs", expired(), expired())
    assert (renewed["refreshes"], renewed["session"]["assistantId"]) == (1, ASSISTANT_ID)
    assert (in_vain["refreshes"], in_vain["code"]) == (1, "AUTH_TOKEN_EXPIRED")
    assert in_vain["words"] == SIGNED_OUT


async def test_the_service_says_how_long_to_wait(tmp_path: Path) -> None:
    async with kitchen(tmp_path, RATE_LIMIT="1/second") as recipes:
        first = await recipes.run("session.mjs", sign())
        # One second is well within patience, and the retry is granted.
        reports = [await recipes.run("session.mjs", sign()) for _ in range(3)]
    assert "session" in first
    assert all("session" in report for report in reports)


async def test_nobody_waits_longer_than_a_person_would(tmp_path: Path) -> None:
    async with kitchen(tmp_path, RATE_LIMIT="1/hour") as recipes:
        await recipes.run("session.mjs", sign())
        report = await recipes.run("session.mjs", sign())
    assert (report["code"], report["status"]) == ("RATE_LIMITED", 429)
    assert report["seconds"] < 5
    assert re.fullmatch(r"Too many tries\. Please wait \d+ seconds\.", report["words"])


async def test_a_refusal_is_not_asked_twice(tmp_path: Path) -> None:
    async with kitchen(tmp_path) as recipes:
        report = await recipes.run("session.mjs", sign(key="another secret, long enough to sign"))
    assert (report["code"], report["words"]) == ("AUTH_TOKEN_INVALID", SIGNED_OUT)
    assert report["asked"] == 1
    assert report["requestId"]


async def test_an_outage_of_vapi_is_waited_for_once(tmp_path: Path) -> None:
    async with kitchen(tmp_path, VAPI_BASE_URL="http://127.0.0.1:1") as recipes:
        report = await recipes.run("session.mjs", sign())
    assert (report["code"], report["asked"]) == ("VAPI_SESSION_FAILED", 2)
    assert report["words"] == LATER


async def test_a_service_set_up_wrongly_is_not_asked_twice(tmp_path: Path) -> None:
    async with kitchen(tmp_path, VAPI_API_KEY="another-key") as recipes:
        report = await recipes.run("session.mjs", sign())
    assert (report["code"], report["asked"]) == ("VAPI_SESSION_FAILED", 1)
    assert report["words"] == NOT_TODAY


@pytest.mark.parametrize(
    ("path", "patient", "code"),
    [
        ("", "pt_2", "PATIENT_MISMATCH"),
        ("", "not an id", "INVALID_PATIENT_CONTEXT"),
        ("", "x" * 20_000, "PAYLOAD_TOO_LARGE"),
        ("/other", "pt_1", "NOT_FOUND"),
    ],
)
async def test_a_bug_of_the_app_is_not_asked_twice(
    tmp_path: Path, path: str, patient: str, code: str
) -> None:
    async with kitchen(tmp_path) as recipes:
        url = recipes.url + path
        report = await recipes.run("session.mjs", sign(), url=url, patientId=patient)
    assert (report["code"], report["asked"]) == (code, 1)
    assert report["words"] == APP_BUG


async def test_every_code_has_words(tmp_path: Path) -> None:
    async with kitchen(tmp_path) as recipes:
        words = await recipes.run("words.mjs", codes=list(WORDS), retryAfter=None)
        passing = await recipes.run("words.mjs", codes=["VAPI_SESSION_FAILED"], retryAfter=2)
    assert words == WORDS
    assert WORDS.keys() == set(ErrorCode)
    assert passing["VAPI_SESSION_FAILED"] == LATER


async def test_no_answer_at_all_is_a_poor_connection(tmp_path: Path) -> None:
    async with kitchen(tmp_path) as recipes:
        with bind() as listener:  # it takes connections and never answers
            url = origin(listener)
            silence = await recipes.run("session.mjs", sign(), url=url, timeoutMs=200)
        nobody = await recipes.run("session.mjs", sign(), url=url)
    assert silence["code"] == "TIMEOUT"
    assert nobody["code"] == "UNREACHABLE"
    assert nobody["words"] == POOR_CONNECTION


async def test_the_web_recipe_starts_a_call(tmp_path: Path) -> None:
    async with kitchen(tmp_path, "web", VAPI_CREDENTIAL="session_token") as recipes:
        await recipes.run("web.mjs", sign(), patientId="pt_1")
    (call,) = recipes.vapi[CALLS]
    assert (call.credential_type, call.call.assistant_id) == ("session_token", ASSISTANT_ID)


async def test_the_web_recipe_says_what_a_patient_understands(tmp_path: Path) -> None:
    # Not watched: the service would notice, and refuse first.
    async with kitchen(tmp_path, "web", VAPI_CHECK_SECONDS="0") as recipes:
        refused = await recipes.run("web.mjs", "no token")
        recipes.vapi[SWITCH].behaviour = Behaviour(Fault.STATUS, 401)
        unstarted = await recipes.run("web.mjs", sign())
    assert refused["shown"] == [SIGNED_OUT]
    assert unstarted["shown"] == ["The call could not be started. Please try again."]


async def test_the_native_recipe_starts_one_call_and_ends_it(tmp_path: Path) -> None:
    async with kitchen(tmp_path, "react-native", VAPI_CREDENTIAL="session_token") as recipes:
        report = await recipes.run("native.mjs", expired(), sign())
    assert [state for state, _ in report["states"]] == ["idle", "starting", "talking", "idle"]
    assert [call.credential_type for call in recipes.vapi[CALLS]] == ["session_token"]


async def test_the_native_recipe_says_what_a_patient_understands(tmp_path: Path) -> None:
    async with kitchen(tmp_path, "react-native") as recipes:
        report = await recipes.run("native.mjs", "no token")
    assert report["states"][-1] == ["idle", SIGNED_OUT]
    assert len(recipes.vapi[CALLS]) == 0

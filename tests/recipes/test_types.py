"""The JavaScript recipes against the SDKs' own types, with TypeScript's strict rules."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.recipes.support import HERE, MODULES, blocks

pytestmark = pytest.mark.e2e


def type_errors(folder: Path) -> str:
    """Return what tsc reports, empty when the types are right."""
    shutil.copy(HERE / "tsconfig.json", folder)
    tsc = str(MODULES / ".bin" / "tsc")
    done = subprocess.run((tsc, "-p", "."), cwd=folder, capture_output=True, text=True, check=False)
    assert bool(done.returncode) == bool(done.stdout)
    return done.stdout


def test_recipes_have_the_types_of_the_sdks(folder: Path) -> None:
    assert type_errors(folder) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("@property {() => unknown} stop", "@property {() => unknown} hangUp"),
        ('"call-start" |', '"call-started" |'),
        ("(assistantId: string, overrides", "(assistantId: number, overrides"),
        ("apiToken: string, apiBaseUrl", "apiToken: number, apiBaseUrl"),
        ("{ variableValues: object }", "{ variableValues: string }"),
    ],
)
def test_wrong_use_of_an_sdk_is_found(folder: Path, right: str, wrong: str) -> None:
    shared = folder / "voice-call.js"
    source = shared.read_text()
    assert right in source
    shared.write_text(source.replace(right, wrong))
    errors = type_errors(folder)
    assert "web.js" in errors
    assert "react-native.js" in errors


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("  setMuted(mute)", "  mute(mute)"),
        ("async stop() {", "stop() {"),
        ("static async runNetworkTestsStandalone", "async runNetworkTestsStandalone"),
        ("constructor(apiToken, apiBaseUrl,", "constructor(apiBaseUrl, apiToken, more,"),
    ],
)
def test_class_of_the_sandbox_without_a_member_is_found(
    folder: Path, right: str, wrong: str
) -> None:
    vapi = folder / "vapi.js"
    source = vapi.read_text()
    assert right in source
    vapi.write_text(source.replace(right, wrong))
    assert "drivers/conformance.ts" in type_errors(folder)


@pytest.mark.parametrize(("page", "language"), [("web", "html"), ("react-native", "jsx")])
def test_examples_have_the_right_syntax(packages: None, page: str, language: str) -> None:
    (example,) = blocks(page, language)
    script = re.search(r'<script type="module">(.*)</script>', example, re.DOTALL)
    code = script[1] if script else f"function Screen() {{ {example} }}"
    command = (str(MODULES / ".bin" / "esbuild"), "--loader=jsx", "--log-level=warning")
    subprocess.run(command, input=code, text=True, check=True, stdout=subprocess.DEVNULL)

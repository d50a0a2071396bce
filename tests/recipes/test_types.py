"""The JavaScript recipes against the SDKs' own types, with TypeScript's strict rules."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.recipes.support import HERE, MODULES, blocks

pytestmark = pytest.mark.e2e


# A file, what is right in it and what is wrong, and the files in which tsc must find it.
VARIANTS = [
    ("voice-call.js", right, wrong, ("web.js", "react-native.js"))
    for right, wrong in (
        ("@property {() => unknown} stop", "@property {() => unknown} hangUp"),
        ('"call-start" |', '"call-started" |'),
        ("(assistantId: string, overrides", "(assistantId: number, overrides"),
        ("apiToken: string, apiBaseUrl", "apiToken: number, apiBaseUrl"),
        ("{ variableValues: object }", "{ variableValues: string }"),
    )
] + [
    ("vapi.js", right, wrong, ("drivers/conformance.ts",))
    for right, wrong in (
        ("  setMuted(mute)", "  mute(mute)"),
        ("async stop() {", "stop() {"),
        ("static async runNetworkTestsStandalone", "async runNetworkTestsStandalone"),
        ("constructor(apiToken, apiBaseUrl,", "constructor(apiBaseUrl, apiToken, more,"),
    )
]


def test_types_fit_those_of_the_sdks_and_wrong_ones_are_found(folder: Path) -> None:
    """One run of tsc checks the recipes and, each in a folder of its own, the wrong variants."""
    config = json.loads((HERE / "tsconfig.json").read_text())
    checked = config["files"]
    for number, (file, right, wrong, _) in enumerate(VARIANTS):
        variant = folder / f"variant{number}"
        shutil.copytree(folder / "drivers", variant / "drivers")
        for script in folder.glob("*.js"):
            shutil.copy(script, variant)
        source = (variant / file).read_text()
        assert right in source
        (variant / file).write_text(source.replace(right, wrong))
    folders = ["", *(f"variant{number}/" for number in range(len(VARIANTS)))]
    config["files"] = [f"{each}{file}" for each in folders for file in checked]
    (folder / "tsconfig.json").write_text(json.dumps(config))
    command = (str(MODULES / ".bin" / "tsc"), "-p", ".")
    output = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout
    found = set(re.findall(r"^(\S+)\(\d+,\d+\): error", output, re.MULTILINE))
    assert {file for file in found if not file.startswith("variant")} == set(), output
    for number, (_, _, wrong, files) in enumerate(VARIANTS):
        assert {f"variant{number}/{file}" for file in files} <= found, wrong


@pytest.mark.parametrize(("page", "language"), [("web", "html"), ("react-native", "jsx")])
def test_examples_have_the_right_syntax(packages: None, page: str, language: str) -> None:
    (example,) = blocks(page, language)
    script = re.search(r'<script type="module">(.*)</script>', example, re.DOTALL)
    code = script[1] if script else f"function Screen() {{ {example} }}"
    command = (str(MODULES / ".bin" / "esbuild"), "--loader=jsx", "--log-level=warning")
    subprocess.run(command, input=code, text=True, check=True, stdout=subprocess.DEVNULL)

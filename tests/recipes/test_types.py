"""The JavaScript recipes against the SDKs' own types, with TypeScript's strict rules."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.recipes.support import HERE, MODULES

pytestmark = pytest.mark.e2e


def type_errors(folder: Path) -> str:
    """Give what tsc reports, empty when the types are right."""
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

"""What README.md says of the first request and of this repository is true."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from sandbox.banner import banner
from tests.sandbox.support import SECRET, Sandbox

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def badge(name: str) -> str:
    """Return the text of a badge that README shows."""
    assert f"(docs/badges/{name}.svg)" in README
    title = re.search("<title>(.*)</title>", (ROOT / "docs/badges" / f"{name}.svg").read_text())
    assert title is not None
    return title[1]


def test_badges_are_true() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    versions = workflow["jobs"]["ci"]["strategy"]["matrix"]["python"]
    assert badge("python") == f"python: {versions[0]} to {versions[-1]}"
    assert (tools["coverage"]["report"]["fail_under"], tools["coverage"]["run"]["branch"]) == (
        100,
        True,
    )
    assert badge("coverage") == "branch coverage: 100 %"
    assert tools["mypy"]["strict"]
    assert badge("types") == "mypy: strict"


async def test_first_request_has_this_answer(sandbox: Sandbox) -> None:
    def shape(value: Any) -> Any:
        return {k: shape(v) for k, v in value.items()} if isinstance(value, dict) else type(value)

    line = re.search(r"^curl .*$", README, re.MULTILINE)
    printed = re.search(r"^curl .*$", banner(sandbox.settings, SECRET), re.MULTILINE)
    assert line is not None
    assert printed is not None
    here = printed[0].replace(str(sandbox.settings.port), "8080")
    assert here.startswith(line[0].rstrip("…'"))
    shown = json.loads(README.split("Its answer:\n\n```json\n")[1].split("```")[0])
    _, answer = await sandbox.start(await sandbox.token("valid"))
    assert shape(shown) == shape(answer)

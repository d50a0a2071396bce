"""The documents name only what exists: files, headings, make targets and folders."""

import hmac
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pytest
import yaml

from middlewares.errors import ErrorCode
from server.config.settings import VARIABLES

ROOT: Final = Path(__file__).parents[1]
GENERATED: Final = {"__pycache__", "node_modules", "build"}


def walk() -> Iterator[Path]:
    """Yield the files of the repository, without hidden and generated folders."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            each for each in folders if not each.startswith(".") and each not in GENERATED
        ]
        yield from (Path(folder, name).relative_to(ROOT) for name in names)


FILES: Final = list(walk())
DOCUMENTS: Final = sorted(str(path) for path in FILES if path.suffix == ".md")
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
CODE: Final = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the anchors that a Git host gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def broken_links(path: Path, text: str) -> list[str]:
    """Return the links of a document that lead to no file of the repository, or to no heading."""
    broken = []
    for link in LINK.findall(CODE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links(name: str) -> None:
    path = ROOT / name
    assert broken_links(path, path.read_text("utf-8")) == []


def test_broken_links_are_found() -> None:
    text = "[a](missing.md) [b](README.md#none) [c](#none) [d](https://a.test) [e](README.md)"
    assert broken_links(ROOT / "README.md", text) == ["missing.md", "README.md#none", "#none"]


def test_make_targets() -> None:
    targets = set(
        re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    used = {
        target
        for name in DOCUMENTS
        for code in CODE.findall((ROOT / name).read_text("utf-8"))
        for words in re.findall(r"(?m)(?:^|`)make((?: [a-z][a-z0-9-]+)+)", code)
        for target in words.split()
    }
    assert len(used) > 10
    assert used <= targets


def test_dependabot_covers_every_manifest() -> None:
    document: Any = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text("utf-8"))
    covered = {
        (update["package-ecosystem"], folder)
        for update in document["updates"]
        for folder in update.get("directories", [update.get("directory")])
    }
    manifests = {"package.json": "npm", "setup.py": "pip", "Dockerfile": "docker"}
    found = {
        (manifests[path.name], str("/" / path.parent)) for path in FILES if path.name in manifests
    }
    assert covered == found | {("github-actions", "/")}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="Debian: apt install openssl")
def test_lines_of_a_patient_are_found_as_the_security_page_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    (command,) = re.findall(r"^ *(printf .*openssl dgst.*)$", page, re.MULTILINE)
    (tmp_path / "key").write_text("a key of the tests of more than 32 bytes\n")
    local = re.sub(r"/etc/vapi-sessions/secrets/AUDIT_HASH_KEY", f"{tmp_path}/key", command)
    environ = {**os.environ, "PATIENT": "auth0|pt_1"}
    made = subprocess.run(["sh", "-c", local], env=environ, capture_output=True, check=True)
    expected = hmac.digest(b"a key of the tests of more than 32 bytes", b"auth0|pt_1", "sha256")
    assert made.stdout.decode().split()[-1] == expected.hex()


def touched(change: str) -> set[str]:
    """Return the files that CONTRIBUTING.md lists for each change of this kind."""
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    listed = page.partition(f"\n**{change}**")[2].partition("\n**")[0].partition("- if ")[0]
    return set(re.findall(r"`([\w./-]+\.\w+)`", listed))


def naming(names: Iterable[str], *, most: int) -> set[str]:
    """Return the files of the repository that name all of these, or all but `most`."""
    wanted = {name.lower() for name in names}
    texts = {path: (ROOT / path).read_bytes().decode(errors="ignore") for path in FILES}
    words = {path: set(re.findall(r"\w+", text.lower())) for path, text in texts.items()}
    return {str(path) for path, found in words.items() if len(wanted - found) <= most}


def test_contributing_lists_the_files_of_an_error_code() -> None:
    assert touched("An error code") == naming((code.value for code in ErrorCode), most=0)


def test_contributing_lists_the_files_of_a_setting() -> None:
    assert touched("A setting") == naming(VARIABLES, most=len(VARIABLES) // 8)


def test_contributing_names_files_that_exist() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`((?:server|middlewares|docs|deploy|tests|sandbox)/[\w./@-]+)`", page))
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []

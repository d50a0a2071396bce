"""`config.example.env` documents every variable, and only those, with its default."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

import server
from rig.service import NO_FILE, SECRET
from server.config import Settings, load_settings
from server.config.settings import SECRETS

EXAMPLE = Path(server.__file__).parent.parent / "config.example.env"
LINE = re.compile(r"^(#?)([A-Z_]+)=(.*)$", re.MULTILINE)
REQUIRED = {"VAPI_API_KEY", "VAPI_PUBLIC_API_KEY", "VAPI_ASSISTANT_ID"}
NAMES = [item.name.upper() for item in fields(Settings)]
SHOWN_IN_API = {
    "CONSENT_REQUIRED",
    "JWT_DPOP",
    "METRICS_ENABLED",
    "PROOF_KEY",
    "VAPI_ASSISTANTS",
}
IDS = {name: f"{number}" * 32 for number, name in enumerate(sorted(REQUIRED))}


def test_every_variable_is_documented_once_and_nothing_else() -> None:
    names = [name for _, name, _ in LINE.findall(EXAMPLE.read_text())]
    assert sorted(names) == sorted(item.name.upper() for item in fields(Settings))


def test_every_variable_is_in_the_documents() -> None:
    documents = "".join(each.read_text() for each in (EXAMPLE.parent / "docs").rglob("*.md"))
    assert set(NAMES) <= set(re.findall(r"\b[A-Z_]+\b", documents))


def test_what_shows_in_the_api_names_its_setting() -> None:
    document = (EXAMPLE.parent / "server" / "api" / "openapi.json").read_text()
    assert set(re.findall(r"\b[A-Z_]+\b", document)) >= SHOWN_IN_API


def test_every_variable_has_a_comment_above_it() -> None:
    """A line without a comment of its own follows the variable that it is described with."""
    paragraphs = EXAMPLE.read_text().split("\n\n")
    for paragraph in paragraphs:
        if LINE.search(paragraph):
            comment = LINE.sub("", paragraph)
            assert re.search(r"^# \w.*[a-z]", comment, re.MULTILINE), paragraph


def test_only_required_variables_are_active() -> None:
    text = EXAMPLE.read_text()
    assert {name for mark, name, _ in LINE.findall(text) if not mark} == REQUIRED


def test_every_secret_is_listed_as_a_possible_file() -> None:
    heading = EXAMPLE.read_text().split("# ---")[0]
    (listed,) = re.findall(r"Each secret \((.*?)\)", heading.replace("\n# ", " "))
    assert set(listed.split(", ")) == SECRETS


def test_the_defaults_are_shown(tmp_path: Path) -> None:
    variables = {**IDS, "JWT_SECRET": SECRET}
    default = load_settings(variables, NO_FILE)
    assert load_settings(variables, EXAMPLE) == default
    shown = {name: value for _, name, value in LINE.findall(EXAMPLE.read_text())}
    for item in fields(Settings):
        assert bool(shown[item.name.upper()]) == (item.default not in {MISSING, "", (), b""})
    uncommented = tmp_path / ".env"
    uncommented.write_text(LINE.sub(r"\2=\3", EXAMPLE.read_text()))
    assert load_settings(variables, uncommented) == default


AUTHENTICATION = EXAMPLE.parent / "docs" / "authentication.md"


@pytest.mark.parametrize("place", ["above", "below", "beside VAPI_"])
def test_a_pasted_provider_block_is_not_overridden(tmp_path: Path, place: str) -> None:
    found = re.search(r"### Auth0\n.*?```env\n(.*?)```", AUTHENTICATION.read_text(), re.DOTALL)
    assert found
    block, text = found[1], EXAMPLE.read_text()
    for name, value in IDS.items():
        text = text.replace(f"\n{name}=\n", f"\n{name}={value}\n")
    filled = f"VAPI_API_KEY={IDS['VAPI_API_KEY']}\n"
    pasted = {
        "above": block + text,
        "below": text + block,
        "beside VAPI_": text.replace(filled, filled + block),
    }
    dotenv = tmp_path / ".env"
    dotenv.write_text(pasted[place])
    settings = load_settings({}, dotenv)
    assert settings.jwt_issuer == ("https://clinic.eu.auth0.com/",)
    assert settings.jwt_audience == ("https://voice.clinic.example",)
    assert settings.jwt_algorithms == ("RS256",)
    assert settings.jwt_role_claim == "https://clinic.example/roles"

"""The sources: the environment wins over `.env`, and an empty value counts as unset."""

from pathlib import Path

import pytest

from server.config.sources import Sources, read_sources


def read(folder: Path, environ: dict[str, str], dotenv: str = "") -> Sources:
    """Read the sources, with a `.env` file of this content."""
    path = folder / ".env"
    path.write_text(dotenv)
    return read_sources(environ, path)


@pytest.mark.parametrize(
    ("environ", "dotenv", "value"),
    [
        ({"A": "environment"}, "A=file", "environment"),
        ({}, "A=file", "file"),
        ({"A": ""}, "A=file", "file"),
        ({"A": ""}, "", None),
        ({}, "A=", None),
        ({}, "", None),
    ],
)
def test_precedence(
    tmp_path: Path, environ: dict[str, str], dotenv: str, value: str | None
) -> None:
    assert read(tmp_path, environ, dotenv).values.get("A") == value


@pytest.mark.parametrize(
    "value",
    [
        "${HOME}",
        "$HOME",
        "a#b",
        "a #b",
        "# b",
        " spaces ",
        '"quoted"',
        "'quoted'",
        "a\\nb",
        "a\nb",
        "a=b",
        "\t",
        "é",
        "\udcff",
        "%s{}",
    ],
)
def test_the_environment_is_taken_byte_for_byte(tmp_path: Path, value: str) -> None:
    assert read(tmp_path, {"A": value, "HOME": "expanded"}).values["A"] == value


def test_a_file_in_a_parent_directory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("A=above")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert read_sources({}, Path(".env")).values == {}


def test_misspelled_names_of_both_sources_are_warnings(tmp_path: Path) -> None:
    assert read(tmp_path, {"LOGLEVEL": "x"}, "JWT_AUDIANCE=").warnings == (
        "JWT_AUDIANCE: unknown; did you mean JWT_AUDIENCE?",
        "LOGLEVEL: unknown; did you mean LOG_LEVEL?",
    )

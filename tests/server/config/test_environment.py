"""Where values come from: the environment before `.env`, empty as unset, byte for byte."""

from pathlib import Path

import pytest
from environs import ValidationError

from server.config.environment import EnvironmentReader


def read(
    name: str,
    environ: dict[str, str],
    folder: Path,
    dotenv: bytes | None = None,
    kind: object = str,
) -> object:
    """Read one variable; give its value, `None` for a default, or what is wrong with it."""
    file = folder / ".env"
    if dotenv is not None:
        file.write_bytes(dotenv)
    env = EnvironmentReader(environ, file)
    value = env.setting(name, None, unset=None, kind=kind, rules=())
    return env.faults().get(name, value)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    assert read("A", {"A": "environment"}, tmp_path, b"A=file") == "environment"
    assert read("A", {}, tmp_path, b"A=file") == "file"


def test_an_empty_value_counts_as_unset(tmp_path: Path) -> None:
    assert read("A", {"A": ""}, tmp_path) is None
    assert read("A", {"A": ""}, tmp_path, b"A=file") == "file"
    assert read("A", {}, tmp_path, b"A=\nB\n") is None
    assert read("B", {}, tmp_path, b"A=\nB\n") is None


@pytest.mark.parametrize(
    ("environ", "dotenv", "value"),
    [
        ({"RATE_LIMIT": "off"}, b"RATE_LIMIT=1/day", "off"),
        ({"RATE_LIMIT": ""}, b"RATE_LIMIT=1/day", "1/day"),
        ({}, b"RATE_LIMIT=", None),
        ({}, b"RATE_LIMIT", None),
        ({}, b"", None),
    ],
)
def test_an_empty_rate_limit_is_unset(
    tmp_path: Path, environ: dict[str, str], dotenv: bytes, value: str | None
) -> None:
    assert read("RATE_LIMIT", environ, tmp_path, dotenv) == value


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
    assert read("A", {"A": value, "HOME": "nowhere"}, tmp_path) == value


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"A=${HOME}x", "${HOME}x"),
        (b"A='${HOME}'", "${HOME}"),
        (b'A="a#b"', "a#b"),
        (b"A='a # b'", "a # b"),
        (b"export A=b", "b"),
        (b"A='\xff'", "\udcff"),
        ("A=é".encode(), "é"),
    ],
)
def test_nothing_in_the_file_is_expanded(tmp_path: Path, line: bytes, value: str) -> None:
    assert read("A", {"HOME": "nowhere"}, tmp_path, line) == value


def test_a_file_in_a_folder_above_is_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("A=above")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    env = EnvironmentReader({}, Path(".env"))
    assert env.setting("A", "default", unset="default", kind=str, rules=()) == "default"


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        EnvironmentReader({}, tmp_path)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (str, "x", "x"),
        (int, "7", 7),
        (int, "-7", -7),
        (int, "7.5", "must be a whole number"),
        (int, "x", "must be a whole number"),
        (int, "9" * 5000, "must be a whole number"),
        (float, "7.5", 7.5),
        (float, "x", "must be a number"),
        (bool, "true", True),
        (bool, "FALSE", False),
        (bool, "1", "must be true or false"),
        (bool, "yes", "must be true or false"),
        (bytes, "é\udcff", "é".encode() + b"\xff"),
        (tuple[str, ...], "a, b ,,c", ("a", "b", "c")),
        (tuple[str, ...], " , ", ()),
    ],
)
def test_text_becomes_a_value_of_its_kind(
    tmp_path: Path, kind: object, text: str, value: object
) -> None:
    assert read("A", {"A": text}, tmp_path, kind=kind) == value


def test_every_fault_is_gathered_and_named(tmp_path: Path) -> None:
    def odd(value: int) -> None:
        if value % 2 == 0:
            raise ValidationError("must be odd")

    env = EnvironmentReader({"A": "x", "B": "2", "C": "3"}, tmp_path / ".env")
    for name in ("A", "B", "C"):
        env.setting(name, 1, unset=1, kind=int, rules=(odd,))
    env.setting("D", ..., unset=..., kind=int, rules=(odd,))
    assert env.faults() == {"A": "must be a whole number", "B": "must be odd", "D": "is required"}

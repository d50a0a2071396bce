"""Variables become values of their kinds; every fault is collected."""

import pytest
from environs import ValidationError

from server.config.loader import EnvironmentReader
from server.config.settings import Pem


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
        (Pem, "a\\nb\\r\\nc\n", "a\nb\nc\n"),
        (tuple[str, ...], "a, b ,,c", ("a", "b", "c")),
        (tuple[str, ...], " , ", ()),
    ],
)
def test_text_becomes_a_value_of_its_kind(kind: object, text: str, value: object) -> None:
    env = EnvironmentReader({"A": text})
    read = env.setting("A", None, unset=None, kind=kind, rules=())
    assert env.faults().get("A", read) == value


@pytest.mark.parametrize("text", ["${HOME}", "{{HOME}}", "%(HOME)s", " a ", "'a'", "a\\nb", "é\n"])
def test_text_is_taken_as_it_is(text: str) -> None:
    env = EnvironmentReader({"A": text, "HOME": "expanded"})
    assert env.setting("A", None, unset=None, kind=str, rules=()) == text


def test_a_missing_or_empty_variable_has_its_default() -> None:
    env = EnvironmentReader({"A": ""})
    for name in ("A", "B"):
        assert env.setting(name, 3, unset=3, kind=int, rules=()) == 3
    assert env.faults() == {}


def test_all_faults_are_collected_by_name() -> None:
    def odd(value: int) -> None:
        if value % 2 == 0:
            raise ValidationError("must be odd")

    env = EnvironmentReader({"A": "x", "B": "2", "C": "3"})
    for name in ("A", "B", "C"):
        env.setting(name, 1, unset=1, kind=int, rules=(odd,))
    env.setting("D", ..., unset=..., kind=int, rules=(odd,))
    assert env.faults() == {"A": "must be a whole number", "B": "must be odd", "D": "is required"}

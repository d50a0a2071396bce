"""The Kotlin, Swift and Dart recipes: their syntax, and the symbols that they use of the SDKs."""

import re

import pytest

from tests.recipes.support import CLIENTS, blocks
from tests.recipes.syntax import SDKS, Sdk, faults, symbols

by_page = pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.page)


def listed(sdk: Sdk) -> set[str]:
    """Return the symbols in the table of an SDK."""
    page = (CLIENTS / "symbols.md").read_text()
    title = {"ios": "iOS"}.get(sdk.page, sdk.page.title())
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| (`.*?) \| ", section, re.MULTILINE)
    return {symbol for row in rows for symbol in re.findall(r"`([^`]+)`", row)}


@by_page
def test_syntax_is_right(sdk: Sdk) -> None:
    code = blocks(sdk.page, sdk.language)
    assert code
    assert [faults(sdk.language, block) for block in code] == [[]] * len(code)


@by_page
def test_wrong_syntax_is_found(sdk: Sdk) -> None:
    recipe = blocks(sdk.page, sdk.language)[-1]
    assert faults(sdk.language, recipe.replace("}", "", 1))


@by_page
def test_every_symbol_of_the_sdk_is_listed(sdk: Sdk) -> None:
    used = set().union(*(symbols(sdk, code) for code in blocks(sdk.page, sdk.language)))
    assert used == listed(sdk)


@by_page
def test_wrong_use_of_an_sdk_is_found(sdk: Sdk) -> None:
    recipe = blocks(sdk.page, sdk.language)[-1]
    renamed = symbols(sdk, recipe.replace("assistantOverrides", "overrides"))
    assert renamed - listed(sdk) != set()


@by_page
def test_patient_proof_is_passed_on(sdk: Sdk) -> None:
    recipe = blocks(sdk.page, sdk.language)[-1]
    assert re.search(r"""["']variableValues["'].{1,12}["']patientProof["']""", recipe)
    assert "assistantOverrides" in recipe

"""Fixtures of the recipes' tests: the packages, and folders with the recipes in them."""

from pathlib import Path

import pytest

from tests.recipes.support import install_packages, lay_out


@pytest.fixture(scope="session")
def packages() -> None:
    """Install Vapi's SDKs and the tools."""
    install_packages()


@pytest.fixture
def folder(packages: None, tmp_path: Path) -> Path:
    """Return a folder with the JavaScript recipes, the drivers and the packages."""
    lay_out(tmp_path)
    return tmp_path

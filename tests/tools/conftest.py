"""Fixtures of the tests of docs/tools."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.drivers import Driver, NodeDriver, PythonDriver
from tests.tools.node import lay_out


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeDriver]:
    """Run the JavaScript in one process for all tests."""
    folder: Path = tmp_path_factory.mktemp("webhook")
    lay_out(folder, "driver.mjs")
    command = ["node", str(folder / "driver.mjs")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield NodeDriver(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(params=["python", "javascript"])
def driver(request: pytest.FixtureRequest) -> Driver:
    """Run a test with each language."""
    if request.param == "python":
        return PythonDriver()
    found: Driver = request.getfixturevalue("node")
    return found

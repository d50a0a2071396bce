"""Runs tests in processes that are forked from one which has imported the libraries."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from importlib.util import cache_from_source
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from resource import RLIMIT_AS, setrlimit

import pytest

ROOT = Path(__file__).parents[2]
_MAX_MEMORY = 2 << 30  # bytes: an endless loop must not exhaust the machine
_TEST_SECONDS = 30
_OURS = ("middlewares", "server", "sandbox", "tests")
# Only the plugins that the tests need: to load all of them would take longer than most tests.
PLUGINS = (
    "pytest_asyncio.plugin",
    "pytest_aiohttp.plugin",
    "pytest_timeout",
    "_hypothesis_pytestplugin",
)
_LOG = "pytest.log"
_OPTIONS = (
    *("-x", "-q", "--tb=short", "--hypothesis-seed=0", "-p", "no:cacheprovider"),
    # A mutant that waits for ever costs one test's time, not that of all tests.
    *("-o", f"timeout={_TEST_SECONDS}", "-o", "timeout_method=thread"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
    *(option for plugin in PLUGINS for option in ("-p", plugin)),
)


class Outcome(StrEnum):
    """The outcome of a mutant."""

    KILLED = "killed"
    TIMEOUT = "timeout"
    SURVIVED = "survived"
    EQUIVALENT = "equivalent"


class Workspace:
    """A copy of the working tree, whose files can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        for name in filter(None, names.decode().split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)

    def run(self, tests: Sequence[str], limit: float) -> Outcome:
        """Run tests until the first failure, for at most `limit` seconds."""
        process = ForkServerProcess(target=_pytest, args=(str(self.folder), list(tests)))
        process.start()
        process.join(limit)
        in_time = process.exitcode is not None
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        if not in_time:
            return Outcome.TIMEOUT
        return Outcome.SURVIVED if process.exitcode == pytest.ExitCode.OK else Outcome.KILLED

    def test(self, path: str, source: str, tests: Sequence[str], limit: float) -> Outcome:
        """Run tests with another source in place of a file."""
        original = (self.folder / path).read_text()
        self._replace(path, source)
        try:
            return self.run(tests, limit)
        finally:
            self._replace(path, original)

    def output(self) -> str:
        """Return what the last run printed."""
        return (self.folder / _LOG).read_text(errors="replace")

    def _replace(self, path: str, source: str) -> None:
        """Replace a file and its byte code, whose time stamp has a resolution of a second."""
        (self.folder / path).write_text(source)
        Path(cache_from_source(self.folder / path)).unlink(missing_ok=True)


def preload() -> None:
    """Let the processes be forked from one which has imported the libraries."""
    multiprocessing.set_forkserver_preload(["tests.mutation.libraries"])


def _pytest(folder: str, tests: Sequence[str]) -> None:
    """Run in a process group of its own, so that it ends together with its children."""
    os.setsid()
    setrlimit(RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    os.chdir(folder)
    log = os.open(_LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.path[0:0] = [folder]
    sys.dont_write_bytecode = False  # the next run of tests starts sooner
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]
    code = int(pytest.main([*_OPTIONS, *tests]))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    os._exit(code)

"""Packages of npm that tests run with Node.js."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest


def install(folder: Path) -> None:
    """Install the packages of a folder's lock file, or skip the test where that is not possible."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed (Debian: apt install nodejs npm)")
    lock = folder / "package-lock.json"
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # one of several test processes does it
        done = folder / "node_modules" / ".package-lock.json"
        if done.exists() and done.stat().st_mtime >= lock.stat().st_mtime:
            return
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        installed = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if installed.returncode:
        pytest.skip(
            f"npm could not install the packages of {folder.name}: is its registry reachable?"
        )

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
    try:
        update(folder, folder / "node_modules" / ".package-lock.json")
    except subprocess.CalledProcessError:
        pytest.skip(
            f"npm could not install the packages of {folder.name}: is its registry reachable?"
        )


def update(folder: Path, made: Path, *scripts: str) -> None:
    """Install the packages of a folder's lock file, then run these scripts of it.

    Does nothing when `made` is newer than the lock file. Raises CalledProcessError.
    """
    lock = folder / "package-lock.json"
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # one of several test processes does it
        if made.exists() and made.stat().st_mtime >= lock.stat().st_mtime:
            return
        install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        for command in (install, *(["run", script] for script in scripts)):
            subprocess.run(["npm", *command], cwd=folder, check=True)

"""Node.js with what the JavaScript of docs/tools imports."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
TOOLS = FOLDER.parents[1] / "docs" / "tools"


def install() -> None:
    """Install jose as the lock file says, or skip where that is not possible."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed (Debian: apt install nodejs npm)")
    lock = FOLDER / "package-lock.json"
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # one of several test processes does it
        done = FOLDER / "node_modules" / ".package-lock.json"
        if done.exists() and done.stat().st_mtime >= lock.stat().st_mtime:
            return
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        installed = subprocess.run(command, cwd=FOLDER, capture_output=True, check=False)
    if installed.returncode:
        pytest.skip("npm could not install jose: is its registry reachable?")


def lay_out(folder: Path, *scripts: str) -> None:
    """Copy the JavaScript of docs/tools into a folder, as a developer does, and test scripts."""
    for file in TOOLS.glob("*.mjs"):
        shutil.copy(file, folder)
    for script in scripts:
        shutil.copy(FOLDER / script, folder)
    (folder / "node_modules").symlink_to(FOLDER / "node_modules")

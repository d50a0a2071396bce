"""Node.js with what the JavaScript of docs/tools imports."""

import shutil
from pathlib import Path

from tests import npm

FOLDER = Path(__file__).parent
TOOLS = FOLDER.parents[1] / "docs" / "tools"


def lay_out(folder: Path, *scripts: str) -> None:
    """Copy the JavaScript of docs/tools into a folder, as a developer does, and test scripts.

    jose is installed as the lock file says.
    """
    npm.install(FOLDER)
    for file in TOOLS.glob("*.mjs"):
        shutil.copy(file, folder)
    for script in scripts:
        shutil.copy(FOLDER / script, folder)
    (folder / "node_modules").symlink_to(FOLDER / "node_modules")

"""Optional packages that a setting requires."""

from importlib.util import find_spec
from pathlib import Path


def find_swagger_ui() -> Path | None:
    """Return the folder of Swagger UI's files, or None when the extra `docs` is not installed.

    The package `flask_swagger_ui` contains the files; no code of it runs.
    """
    spec = find_spec("flask_swagger_ui")
    return Path(spec.origin).parent / "dist" if spec and spec.origin else None

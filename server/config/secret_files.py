"""Secrets in files: `NAME_FILE` gives the path of a file that contains the value of `NAME`."""

import os
from collections.abc import Iterable, Mapping
from typing import Final

MAX_FILE_BYTES: Final = 65536

_SUFFIX: Final = "_FILE"


def file_variable(name: str) -> str:
    """Return the name of the variable that gives the path of a secret's file."""
    return name + _SUFFIX


def read_secret_files(
    values: Mapping[str, str], names: Iterable[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Read the file of each secret in `names` whose `NAME_FILE` is in `values`.

    Returns the contents and the faults, both by `NAME`. A secret that is also set directly is a
    fault.
    """
    contents, faults = {}, {}
    for name in names:
        path = values.get(file_variable(name))
        if path and values.get(name):
            faults[name] = f"conflicts with {name}: set only one of the two"
        elif path:
            try:
                contents[name] = _read(path)
            except OSError as error:
                faults[name] = f"the file cannot be read ({error.strerror})"
            except ValueError as error:
                faults[name] = str(error)
    return contents, faults


def _read(path: str) -> str:
    """Read a file byte for byte, without one line break at its end. Raises OSError, ValueError."""
    if "\0" in path:
        raise ValueError("must be the path of a file")
    with open(path, "rb") as file:  # noqa: PTH123  Path would add nothing
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"the file is longer than {MAX_FILE_BYTES} bytes")
    for line_break in (b"\r\n", b"\n"):
        if content.endswith(line_break):
            return os.fsdecode(content.removesuffix(line_break))
    return os.fsdecode(content)

"""What the commands share: common arguments, and how a command fails."""

import argparse
import sys
from typing import Final

_MAX_SECONDS: Final = 10**9
_MAX_LINE_BYTES: Final = 1024


class CommandFailed(Exception):  # noqa: N818  it ends a command, and is no defect
    """Ends a command with the exit status 1; its text tells the operator why."""


def add_nothing(_: argparse.ArgumentParser) -> None:
    """Declare no arguments."""


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare `--json`."""
    parser.add_argument("--json", action="store_true", help="print a JSON document")


def add_for(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--for SECONDS`: a whole number from 1, as `seconds`, or None."""
    parser.add_argument("--for", dest="seconds", metavar="SECONDS", type=_seconds, help=text)


def _seconds(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= _MAX_SECONDS):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {_MAX_SECONDS}")
    return int(text)


def read_patient(text: str) -> str:
    """Return a patient id: for `-` that of standard input, which other processes cannot see."""
    if text != "-":
        return text
    line = sys.stdin.buffer.readline(_MAX_LINE_BYTES).decode("utf-8", "replace")
    return line.removesuffix("\n").removesuffix("\r")

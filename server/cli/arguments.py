"""What the commands share: the interface of a command, and its common arguments."""

import argparse
import sys
from typing import Final, Protocol

from server.config.loader import Configuration

_MAX_SECONDS: Final = 10**9
_MAX_LINE_BYTES: Final = 1024


class Command(Protocol):
    """A module of this package that implements one command."""

    @property
    def HELP(self) -> str:  # noqa: N802  a constant of the module
        """One line for the list of commands."""

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None:
        """Declare the arguments of the command."""

    def run(self, configuration: Configuration, arguments: argparse.Namespace, /) -> int:
        """Run the command; return its exit status."""


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


def fail(text: str) -> int:
    """Write the reason of a failure to standard error; return the exit status 1."""
    sys.stderr.write(f"{text}\n")
    return 1

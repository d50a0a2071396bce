"""`python -m server end`: ends calls in progress."""

import argparse
import asyncio
from typing import Final

from server.cli.arguments import read_patient
from server.cli.calls import Selection, end_calls
from server.config.loader import Configuration

HELP: Final = "end calls in progress"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--call`, `--patient` and `--all`."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--call", metavar="ID", help="the call with this id")
    text = "the patient's calls; - reads the id from standard input"
    which.add_argument("--patient", metavar="ID", type=read_patient, help=text)
    which.add_argument("--all", action="store_true", help="all calls with a proof of ours")


def run(configuration: Configuration, arguments: argparse.Namespace) -> int:
    """End the calls; return 1 when one could not be ended."""
    selection = Selection(arguments.call, arguments.patient)
    return asyncio.run(end_calls(configuration.settings, selection))

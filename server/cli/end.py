"""`python -m server end`: ends calls in progress."""

import argparse
import asyncio
import sys
from typing import Final

from server.cli.calls import Selection, end_calls
from server.config.loader import Configuration

HELP: Final = "end calls in progress"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--call`, `--patient` and `--all`."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--call", metavar="ID", help="the call with this id")
    which.add_argument("--patient", metavar="ID", help="the patient's calls; - reads the id")
    which.add_argument("--all", action="store_true", help="all calls with a proof of ours")


def run(configuration: Configuration, arguments: argparse.Namespace) -> int:
    """End the calls; return 1 when one could not be ended."""
    patient = sys.stdin.readline().strip() if arguments.patient == "-" else arguments.patient
    return asyncio.run(end_calls(configuration.settings, Selection(arguments.call, patient)))

"""`python -m server end`: ends calls in progress."""

import argparse
import asyncio
from typing import Final

from server.admin_actions import admin_record, report
from server.cli.arguments import read_patient
from server.cli.calls import Selection, end_calls, exit_status
from server.config import Settings
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
    return asyncio.run(_end(configuration.settings, selection))


async def _end(settings: Settings, selection: Selection) -> int:
    calls = await end_calls(settings, selection)
    if calls is not None:
        patient = selection.patient
        if selection.call_id is not None and calls:
            patient = calls[0].patient
        record = admin_record("end", hash_key=settings.audit_hash_key, patient=patient)
        await report(settings.redis_url, record)
    return exit_status(calls)

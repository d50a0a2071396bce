"""`python -m server revoke`: ends the access of a token or a patient, through Redis."""

import argparse
import asyncio
import sys
from math import ceil
from time import time
from typing import Final

from server.admin_actions import admin_record, report
from server.auth.claims import parse_patient_id
from server.cli.arguments import add_for, fail, read_patient
from server.cli.calls import Selection, end_calls, exit_status
from server.config import Settings
from server.config.loader import Configuration
from server.policies.patient_names import make_patient_names
from server.policies.revocation_index import revoke, token_entry
from server.redis.connection import RedisFailure, describe

HELP: Final = "revoke a token or all tokens of a patient"

_DEFAULT_SECONDS: Final = 366 * 86400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--jti` or `--patient`, and `--for`."""
    add_subject(parser)
    parser.add_argument("--end-calls", action="store_true", help="end the patient's calls too")
    add_for(parser, "default: the longest lifetime of a token by the settings, else a year")


def add_subject(parser: argparse.ArgumentParser) -> None:
    """Declare `--jti` or `--patient`."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--jti", metavar="ID", help="the token, by its jti claim")
    text = "every token of the patient; - reads the id from standard input"
    which.add_argument("--patient", metavar="ID", type=read_patient, help=text)


def find_fault(settings: Settings, jti: str | None, patient: str | None) -> str | None:
    """Return why a revocation by these arguments cannot be written or lifted, if it cannot."""
    if not settings.redis_url:
        return "set REDIS_URL, where the service looks revocations up"
    if jti == "":
        return "a token id cannot be empty"
    if patient is not None and parse_patient_id(patient) is None:
        return "this is not a valid patient id"
    return None


def run(configuration: Configuration, arguments: argparse.Namespace) -> int:
    """Revoke, and print for how long; return 1 when nothing was revoked, or a call not ended."""
    if arguments.end_calls and arguments.patient is None:
        sys.stderr.write("--end-calls needs --patient\n")
        return 2
    return asyncio.run(_revoke(configuration.settings, arguments))


async def _revoke(settings: Settings, arguments: argparse.Namespace) -> int:
    jti, patient = arguments.jti, arguments.patient
    if fault := find_fault(settings, jti, patient):
        return fail(f"Nothing was revoked: {fault}")
    seconds = arguments.seconds or _longest_lifetime(settings)
    names = make_patient_names(settings)
    entry = token_entry(jti) if jti is not None else names.current(patient)
    try:
        await revoke(settings.redis_url, entry, seconds)
    except RedisFailure as error:
        return fail(f"Nothing was revoked: Redis failed ({describe(error)}); check REDIS_URL")
    print(f"revoked for {seconds} seconds")
    hash_key, until = settings.audit_hash_key, time() + seconds
    record = admin_record("revoke", hash_key=hash_key, patient=patient, jti=jti, until=until)
    await report(settings.redis_url, record)
    if not arguments.end_calls:
        return 0
    return exit_status(await end_calls(settings, Selection(patient=patient)))


def _longest_lifetime(settings: Settings) -> int:
    """Return the seconds for which a token that exists today can still be valid."""
    if not settings.jwt_max_lifetime_seconds:
        return _DEFAULT_SECONDS
    # The leeway counts twice: iat may be that far in the future, and exp that far in the past.
    return ceil(settings.jwt_max_lifetime_seconds + 2 * settings.jwt_leeway_seconds)

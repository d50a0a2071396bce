"""`python -m server revoke`: ends the access of a token or a patient, through Redis."""

import argparse
import asyncio
from math import ceil
from typing import Final

from server.auth.claims import parse_patient_id
from server.cli.arguments import add_for, fail
from server.config import Settings
from server.config.loader import Configuration
from server.policies.revocations import patient_key, token_key
from server.redis.connection import RedisFailure, describe, execute_once

HELP: Final = "revoke a token or all tokens of a patient"

_DEFAULT_SECONDS: Final = 366 * 86400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--jti` or `--patient`, and `--for`."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--jti", metavar="ID", help="the token, by its jti claim")
    which.add_argument("--patient", metavar="ID", help="every token of the patient")
    add_for(parser, "default: the longest lifetime of a token by the settings, else a year")


def run(configuration: Configuration, arguments: argparse.Namespace) -> int:
    """Revoke, and print for how long; return 1 when nothing was revoked."""
    return asyncio.run(_revoke(configuration.settings, arguments))


async def _revoke(settings: Settings, arguments: argparse.Namespace) -> int:
    jti, patient = arguments.jti, arguments.patient
    if not settings.redis_url:
        return fail("Nothing was revoked: set REDIS_URL, where the service looks revocations up")
    if jti == "":
        return fail("Nothing was revoked: a token id cannot be empty")
    if patient is not None and parse_patient_id(patient) is None:
        return fail("Nothing was revoked: this is not a valid patient id")
    seconds = arguments.seconds or _longest_lifetime(settings)
    key = token_key(jti) if jti is not None else patient_key(patient)
    try:
        await execute_once(settings.redis_url, b"SET", key, b"1", b"EX", seconds)
    except RedisFailure as error:
        return fail(f"Nothing was revoked: Redis failed ({describe(error)}); check REDIS_URL")
    print(f"revoked for {seconds} seconds")
    return 0


def _longest_lifetime(settings: Settings) -> int:
    """Return the seconds for which a token that exists today can still be valid."""
    if not settings.jwt_max_lifetime_seconds:
        return _DEFAULT_SECONDS
    # The leeway counts twice: iat may be that far in the future, and exp that far in the past.
    return ceil(settings.jwt_max_lifetime_seconds + 2 * settings.jwt_leeway_seconds)

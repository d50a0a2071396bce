"""What the command line can be asked for; `python -m server --help` lists it."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from math import ceil
from time import time
from typing import Final

import uvloop

from server.app import create_app
from server.auth.patient_id import parse_patient_id
from server.cli.check import examine, report
from server.cli.token import issue_test_token
from server.config import Settings
from server.observability.logging import configure_logging
from server.redis.revocation_list import patient_key, revoke_in, token_key
from server.serving.process import load_settings_or_exit, serve
from server.serving.runner import Runner

_DEFAULT_TOKEN_SECONDS: Final = 3600
_DEFAULT_REVOCATION_SECONDS: Final = 366 * 86400
_MAX_SECONDS: Final = 10**9


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; give its exit status: 0, 1 (it failed), 2 (misused), 78 (configuration)."""
    chosen = _parser().parse_args(arguments)
    settings = load_settings_or_exit()
    configure_logging(settings.log_level, settings.log_format)
    status: int = chosen.run(settings, chosen)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m server",
        description="A patient's token in, Vapi configuration out. config.example.env lists the "
        "settings, which come from the environment or from .env in this folder.",
    )
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    commands.add_parser("serve", help="serve (also without any command)")
    check = commands.add_parser("check", help="ask whether everything needed holds and answers")
    check.add_argument("--json", action="store_true", help="answer for machines")
    check.set_defaults(run=_check)
    token = commands.add_parser("token", help="print a token to try things out with")
    token.add_argument("--patient", metavar="ID", required=True, help="whose token")
    _add_for(token, "how long it is good: an hour, or JWT_MAX_LIFETIME_SECONDS")
    token.set_defaults(run=_token)
    revoke = commands.add_parser("revoke", help="end the access of a token or a patient")
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("--jti", metavar="ID", help="the token, by its jti claim")
    which.add_argument("--patient", metavar="ID", help="every token of the patient")
    _add_for(revoke, "for how long: as long as a token can live by the settings, else a year")
    revoke.set_defaults(run=_revoke)
    return parser


def _add_for(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--for", dest="seconds", metavar="SECONDS", type=_seconds, help=text)


def _seconds(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= _MAX_SECONDS):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {_MAX_SECONDS}")
    return int(text)


def _fail(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 1


def _serve(settings: Settings, _: argparse.Namespace) -> int:
    async def run() -> None:
        runner = Runner(create_app(settings), grace=settings.shutdown_grace_seconds)
        await serve(runner, settings.host, settings.port)

    try:
        uvloop.run(run())
    except OSError as error:
        return _fail(f"Cannot serve on {settings.host} port {settings.port}: {error.strerror}")
    return 0


def _check(settings: Settings, chosen: argparse.Namespace) -> int:
    return report(asyncio.run(examine(settings)), as_json=chosen.json)


def _token(settings: Settings, chosen: argparse.Namespace) -> int:
    seconds = chosen.seconds or int(settings.jwt_max_lifetime_seconds) or _DEFAULT_TOKEN_SECONDS
    try:
        print(issue_test_token(settings, chosen.patient, seconds=seconds, now=time()))
    except ValueError as error:
        return _fail(str(error))
    return 0


def _revoke(settings: Settings, chosen: argparse.Namespace) -> int:
    if not settings.redis_url:
        return _fail("Revoking needs REDIS_URL: that is where the service looks")
    if chosen.jti == "":
        return _fail("Nothing was revoked: the id of a token is not empty")
    if chosen.patient is not None and parse_patient_id(chosen.patient) is None:
        return _fail("Nothing was revoked: no token can be of a patient with such an id")
    seconds = chosen.seconds or _longest_life(settings)
    key = token_key(chosen.jti) if chosen.jti is not None else patient_key(chosen.patient)
    if not asyncio.run(revoke_in(settings.redis_url, key, seconds)):
        return _fail("Nothing was revoked: Redis does not take it; look at REDIS_URL")
    print(f"revoked for {seconds} seconds")
    return 0


def _longest_life(settings: Settings) -> int:
    """Tell for how long a token could still pass that is known today."""
    if not settings.jwt_max_lifetime_seconds:
        return _DEFAULT_REVOCATION_SECONDS
    # The leeway counts twice: iat may lie that far ahead, and exp that far back.
    return ceil(settings.jwt_max_lifetime_seconds + 2 * settings.jwt_leeway_seconds)

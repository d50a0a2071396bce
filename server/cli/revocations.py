"""`python -m server revocations`: lists what is revoked, and until when."""

import argparse
import asyncio
import json
from dataclasses import asdict
from typing import Final

from middlewares.context import rfc3339
from server.cli.arguments import fail
from server.config import Settings
from server.config.loader import Configuration
from server.policies.revocation_index import Revocation, list_revocations
from server.redis.connection import RedisFailure, describe

HELP: Final = "list what is revoked, and until when"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--json`."""
    parser.add_argument("--json", action="store_true", help="print a JSON document")


def run(configuration: Configuration, arguments: argparse.Namespace) -> int:
    """Print the revocations; return 1 when Redis failed."""
    return asyncio.run(_print(configuration.settings, as_json=arguments.json))


async def _print(settings: Settings, *, as_json: bool) -> int:
    if not settings.redis_url:
        return fail("Nothing can be revoked: set REDIS_URL, where the service looks them up")
    try:
        found = [each async for each in list_revocations(settings.redis_url)]
    except RedisFailure as error:
        return fail(f"Redis failed ({describe(error)}); check REDIS_URL")
    if as_json:
        print(json.dumps([{**asdict(each), "until": rfc3339(each.until)} for each in found]))
        return 0
    for each in found:
        print(_line(each))
    if not found:
        print("nothing is revoked")
    return 0


def _line(revocation: Revocation) -> str:
    """Return a line; what is not printable is escaped, since it could forge another line."""
    if revocation.jti is None:
        return f"until {rfc3339(revocation.until)}  patient {revocation.patient}"
    name = revocation.jti if revocation.jti.isprintable() else json.dumps(revocation.jti)
    return f"until {rfc3339(revocation.until)}  token {name}"

"""`python -m server pause`: pauses the sessions of all processes, through Redis."""

import argparse
import asyncio
from time import time
from typing import Final

from server.admin_actions import admin_record, report
from server.cli.arguments import add_for, fail
from server.cli.calls import Selection, end_calls, exit_status
from server.config import Settings
from server.config.loader import Configuration
from server.policies.pause import PAUSE_KEY, encode_pause
from server.redis.connection import RedisFailure, describe, execute_once

HELP: Final = "pause all sessions of all processes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--for` and `--reason`."""
    add_for(parser, "default: until the command `resume`")
    parser.add_argument("--end-calls", action="store_true", help="end the calls in progress too")
    parser.add_argument("--reason", metavar="TEXT", default="", help="for the log of the service")


def run(configuration: Configuration, arguments: argparse.Namespace) -> int:
    """Pause, and print for how long; return 1 when nothing was paused."""
    return asyncio.run(_pause(configuration.settings, arguments))


async def _pause(settings: Settings, arguments: argparse.Namespace) -> int:
    if not settings.redis_url:
        return fail("Nothing was paused: set REDIS_URL, or SESSIONS_PAUSED=true and restart")
    seconds = arguments.seconds
    until = time() + seconds if seconds else None
    value = encode_pause(until, arguments.reason)
    expiry = (b"EX", seconds) if seconds else ()
    try:
        await execute_once(settings.redis_url, b"SET", PAUSE_KEY, value, *expiry)
    except RedisFailure as error:
        return fail(f"Nothing was paused: Redis failed ({describe(error)}); check REDIS_URL")
    print(f"paused for {seconds} seconds" if seconds else "paused until `resume`")
    record = admin_record("pause", until=until, reason=arguments.reason or None)
    await report(settings.redis_url, record)
    return exit_status(await end_calls(settings, Selection())) if arguments.end_calls else 0

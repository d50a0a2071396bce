"""`python -m server resume`: ends the pause that `pause` began."""

import argparse
import asyncio
from typing import Final

from server.admin_actions import admin_record, report
from server.cli.arguments import fail
from server.config import Settings
from server.config.loader import Configuration
from server.policies.pause import PAUSE_KEY
from server.redis.connection import RedisFailure, describe, execute_once

HELP: Final = "end the pause of all sessions"


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Declare nothing."""


def run(configuration: Configuration, _: argparse.Namespace) -> int:
    """End the pause, if there is one; return 1 when Redis failed."""
    return asyncio.run(_resume(configuration.settings))


async def _resume(settings: Settings) -> int:
    if not settings.redis_url:
        return fail("Nothing was resumed: set REDIS_URL, through which sessions are paused")
    try:
        removed = await execute_once(settings.redis_url, b"DEL", PAUSE_KEY)
    except RedisFailure as error:
        return fail(f"Nothing was resumed: Redis failed ({describe(error)}); check REDIS_URL")
    print("resumed" if removed else "there was no pause")
    if settings.sessions_paused:
        print("sessions stay paused: SESSIONS_PAUSED is true")
    await report(settings.redis_url, admin_record("resume"))
    return 0

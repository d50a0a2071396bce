"""A process of the service: its settings or its end, and its life until it is told to leave."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from typing import Final

from aiohttp import web

from server.runner import Runner
from server.settings import Settings, SettingsError, load_settings

log = logging.getLogger(__name__)

EX_CONFIG: Final = 78
"""The exit status for a configuration that does not hold (sysexits.h)."""


def settings_or_exit() -> Settings:
    """Load the settings; report every fault on standard error and end with 78 if there is one."""
    try:
        return load_settings()
    except SettingsError as error:
        sys.stderr.write(f"The configuration does not hold:\n{error}\n")
        sys.stderr.write("config.example.env tells what each variable is for.\n")
        raise SystemExit(EX_CONFIG) from None


async def serve(
    runner: Runner, host: str, port: int, *, on_start: Callable[[int], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; `on_start` is told the port that it is."""
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave.set)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
        port = runner.addresses[0][1]
        log.info("serving on %s port %d", host, port)
        if on_start is not None:
            on_start(port)
        await leave.wait()
        log.info("leaving: requests under way are answered first")
    finally:
        await runner.cleanup()

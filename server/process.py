"""A process of the service: its settings or its end, and its life until it is told to leave."""

import asyncio
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from aiohttp import web

from server import leaving
from server.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:  # it loads prometheus_client, for which gunicorn's master chooses a folder first
    from server.runner import Runner

log = logging.getLogger(__name__)

EX_CONFIG: Final = 78
"""The exit status for a configuration that does not hold (sysexits.h)."""

_BACKLOG: Final = 1024
_OPEN_FILES: Final = 65536


def settings_or_exit(status: int = EX_CONFIG) -> Settings:
    """Load the settings; report every fault on standard error and end with 78 if there is one.

    `status` is another one to end with, for a parent process that knows what it means.
    """
    try:
        return load_settings()
    except SettingsError as error:
        sys.stderr.write(f"The configuration does not hold:\n{error}\n")
        sys.stderr.write("config.example.env tells what each variable is for.\n")
        raise SystemExit(status) from None


def allow_many_connections() -> None:
    """Take all the open files that this process may have: the usual 1,024 are soon held open by
    clients that do nothing but stay connected. Whoever has more already keeps them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _OPEN_FILES:
        return
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Take the port at every address that the host has. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, address in dict.fromkeys((family, address) for family, *_, address in found):
        yield socket.create_server(address[:2], family=family, backlog=_BACKLOG)


async def serve(
    runner: "Runner", host: str, port: int, *, on_start: Callable[[int], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; `on_start` is told the port that it is. Raises OSError."""
    allow_many_connections()
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave.set)
    with ExitStack() as held:
        listeners = [held.enter_context(listener) for listener in listen(host, port)]
        try:
            await runner.setup()
            await _start(runner, listeners)
            port = listeners[0].getsockname()[1]
            log.info("serving on %s port %d", host, port)
            if on_start is not None:
                on_start(port)
            await leave.wait()
            log.info("leaving: requests under way are answered first")
            leaving.shut(listeners)
            await runner.announce()
        finally:
            await runner.cleanup()


async def _start(runner: "Runner", listeners: Iterable[socket.socket]) -> None:
    for listener in listeners:
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()

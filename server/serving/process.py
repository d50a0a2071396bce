"""The process of the service: loads the settings, listens, and serves until it is terminated."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Final

from aiohttp import web

from server.config.loader import Configuration, SettingsError, load_configuration
from server.serving.open_files import raise_open_file_limit
from server.serving.runner import Runner
from server.serving.socket_drain import stop_accepting

log = logging.getLogger(__name__)

EX_CONFIG: Final = 78
"""The exit status for an invalid configuration (sysexits.h)."""

_BACKLOG: Final = 1024


def load_or_exit(status: int = EX_CONFIG) -> Configuration:
    """Load the settings; on a fault, print all faults to standard error and exit with `status`."""
    try:
        return load_configuration()
    except SettingsError as error:
        lines = "\n".join(("Invalid configuration:", *error.faults, *error.warnings))
        sys.stderr.write(f"{lines}\nconfig.example.env documents each variable.\n")
        raise SystemExit(status) from None


def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Listen on the port at every address of the host. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, address in dict.fromkeys((family, address) for family, *_, address in found):
        yield socket.create_server(address[:2], family=family, backlog=_BACKLOG)


async def serve(
    runner: Runner, host: str, port: int, *, on_start: Callable[[int], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT. `on_start` receives the actual port. Raises OSError."""
    raise_open_file_limit()
    terminated = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, terminated.set)
    with ExitStack() as sockets:
        listeners = [sockets.enter_context(listener) for listener in listen(host, port)]
        try:
            await runner.setup()
            await _start(runner, listeners)
            port = listeners[0].getsockname()[1]
            log.info("serving on %s port %d", host, port)
            if on_start is not None:
                on_start(port)
            await terminated.wait()
            log.info("shutting down: requests in flight are answered first")
            stop_accepting(listeners)
            await runner.begin_drain()
        finally:
            await runner.cleanup()


async def _start(runner: Runner, listeners: Iterable[socket.socket]) -> None:
    for listener in listeners:
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()

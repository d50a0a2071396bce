"""The process of the service: loads the settings, listens, and serves until it is terminated."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final, NoReturn

from aiohttp import web

from server.config.loader import Configuration, SettingsError, load_configuration
from server.serving.open_files import raise_open_file_limit
from server.serving.runner import Runner
from server.serving.socket_drain import stop_accepting

log = logging.getLogger(__name__)

EX_CONFIG: Final = 78
"""The exit status for an invalid configuration (sysexits.h)."""

_ALL_ADDRESSES: Final = "::"
_BACKLOG: Final = 1024


def load_or_exit(status: int = EX_CONFIG) -> Configuration:
    """Load the settings; on a fault, print all faults to standard error and exit with `status`."""
    try:
        return load_configuration()
    except SettingsError as error:
        exit_for_faults([*error.faults, *error.warnings], status)


def exit_for_faults(lines: Iterable[str], status: int) -> NoReturn:
    """Print the faults of the configuration to standard error, and exit."""
    text = "\n".join(("Invalid configuration:", *lines))
    sys.stderr.write(f"{text}\nconfig.example.env documents each variable.\n")
    raise SystemExit(status) from None


def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Listen on the port at every address of the host; `::` also serves IPv4. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, address in dict.fromkeys((family, address) for family, *_, address in found):
        dual = host == _ALL_ADDRESSES and socket.has_dualstack_ipv6()
        yield socket.create_server(
            address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=dual
        )


async def serve(
    runner: Runner, host: str, port: int, *, on_start: Callable[[int], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT. `on_start` receives the actual port. Raises OSError."""
    raise_open_file_limit()
    terminated = _terminated_by_signals()
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
            await runner.announce_shutdown()
            stop_accepting(listeners)
            await runner.begin_drain()
        finally:
            await runner.cleanup()


async def _start(runner: Runner, listeners: Sequence[socket.socket]) -> None:
    for listener in listeners:
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()
    runner.accept_from(listeners)


def _terminated_by_signals() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets; a second SIGINT ends the process at once."""
    terminated = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminated.set)

    def on_first_sigint() -> None:
        terminated.set()
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    loop.add_signal_handler(signal.SIGINT, on_first_sigint)
    return terminated

"""Runs an application in this process, and ends it gracefully: no request is lost.

The kernel completes TCP handshakes and queues the connections until the process accepts them.
Closing the socket resets all connections of the queue, also those that have sent a request. So new
connections are dropped first, then the queue is accepted, and then the socket is closed.
"""

import asyncio
import ctypes
import logging
import signal
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final, cast

from aiohttp import web

from server.serving.connection_limits import Limits
from server.serving.server import (
    INTERFACE,
    Acceptor,
    ConnectionServer,
    connections_within_limit,
    raise_open_file_limit,
)

log = logging.getLogger(__name__)

_ALL_ADDRESSES: Final = "::"
_BACKLOG: Final = 1024
_POLL_SECONDS: Final = 0.02
_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h; Python has no name for it
# A classic BPF program (linux/filter.h): drops a segment that has SYN set and ACK not, which is
# the first of a connection, and passes every other: the last of a handshake, and data.
_DROP_FIRST_SEGMENTS: Final = (
    (0x30, 0, 0, 13),  # load the byte with the flags (RFC 9293 section 3.1)
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)


@dataclass(frozen=True, slots=True)
class GraceShares:
    """How the grace is divided, in the order of the phases; the rest is reserve.

    First, handshakes that have begun complete, and the connections that the kernel has queued are
    accepted. Then each open connection may send one more request, whose response closes it. Then
    idle connections are closed, and requests in flight continue. Then their time limits expire,
    and what remains is cancelled; each of the two has `cancelled`. Last, the application cleans up.
    """

    handshakes: float = 0.05
    queue: float = 0.05
    idle: float = 0.15
    busy: float = 0.4
    cancelled: float = 0.05
    clean_up: float = 0.1


GRACE_SHARES: Final = GraceShares()


class Runner(web.AppRunner):
    """Runs an application that has an `Interface`, in a single process.

    When the service ends, new connections are served for `delay` seconds more. `grace` is the
    maximum duration of the shutdown after that, in seconds; `GraceShares` divides it.
    """

    __slots__ = ("_acceptor", "_connection_server", "_delay", "_grace", "_interface", "_limits")

    def __init__(
        self, app: web.Application, limits: Limits | None = None, *, grace: float, delay: float = 0
    ) -> None:
        super().__init__(app, shutdown_timeout=0)
        self._interface = app[INTERFACE]
        self._limits = limits or Limits()
        self._grace = grace
        self._delay = delay
        self._connection_server: ConnectionServer | None = None
        self._acceptor: Acceptor | None = None

    @property
    def server(self) -> ConnectionServer | None:
        """The server that sites listen with; None before `setup`."""
        return self._connection_server

    async def setup(self) -> None:
        """Start the application."""
        await super().setup()
        maximum = connections_within_limit(self._limits.max_connections)
        self._interface.connections.maximum = maximum
        made, keepalive = cast("web.Server", super().server), self._limits.keepalive_seconds
        self._connection_server = ConnectionServer(made, self._interface, keepalive)

    def accept_from(self, listeners: Iterable[socket.socket]) -> None:
        """Accept from these sockets, which the caller closes; call it after `setup`."""
        self._acceptor = Acceptor(cast("ConnectionServer", self.server), listeners)
        self._acceptor.start()

    async def announce_shutdown(self) -> None:
        """Set `shutting_down`, and serve on for the delay."""
        self._interface.shutting_down.set()
        if self._delay:  # otherwise the drain begins before the next request
            await asyncio.sleep(self._delay)

    def _begin_to_drain(self) -> None:
        self._interface.shutting_down.set()
        self._interface.draining.set()

    async def begin_drain(self) -> None:
        """Mark the service as draining, and accept all connections that the kernel has queued."""
        self._begin_to_drain()
        await asyncio.sleep(self._grace * GRACE_SHARES.handshakes)
        connections, deadline, before = (
            self._interface.connections,
            self._deadline(GRACE_SHARES.queue),
            -1,
        )
        while connections.accepted > before and monotonic() < deadline:
            before = connections.accepted
            await asyncio.sleep(_POLL_SECONDS)  # accepts at least one if the queue is not empty

    async def cleanup(self) -> None:
        """Stop accepting, answer every request, close every connection, and clean up."""
        self._begin_to_drain()
        if self._acceptor is not None:
            await self._acceptor.stop()
        for site in self.sites:
            await site.stop()
        if self.server is not None:
            await self._close_connections(self.server)
        await super().cleanup()

    async def _close_connections(self, server: ConnectionServer) -> None:
        await self._wait_for_connections(GRACE_SHARES.idle)
        server.pre_shutdown()  # closes idle connections
        await self._wait_for_connections(GRACE_SHARES.busy)
        self._interface.expire_requests()
        await server.shutdown(self._grace * GRACE_SHARES.cancelled)

    async def _wait_for_connections(self, share: float) -> None:
        """Wait until all connections are closed, for at most a share of the grace."""
        connections, deadline = self._interface.connections, self._deadline(share)
        while connections.open and monotonic() < deadline:  # noqa: ASYNC110  a plain number
            await asyncio.sleep(_POLL_SECONDS)

    def _deadline(self, share: float) -> float:
        return monotonic() + self._grace * share


def stop_accepting(listeners: Iterable[socket.socket]) -> None:
    """Drop the first segment of new connections, in every process that shares these sockets.

    A client sends that segment again after a second, and then finds the port closed. On systems
    other than Linux this does nothing, and the sockets are closed all the same.
    """
    code = b"".join(struct.pack("HBBI", *step) for step in _DROP_FIRST_SEGMENTS)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(_DROP_FIRST_SEGMENTS), ctypes.addressof(buffer))
    for listener in listeners:
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Listen on the port at every address of the host; `::` also serves IPv4. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, address in dict.fromkeys((family, address) for family, *_, address in found):
        dual = host == _ALL_ADDRESSES and socket.has_dualstack_ipv6()
        yield socket.create_server(
            address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=dual
        )


async def serve(
    app: web.Application,
    host: str,
    port: int,
    limits: Limits | None = None,
    *,
    grace: float,
    delay: float = 0,
    on_start: Callable[[int], None],
) -> None:
    """Serve an application that has an `Interface` until SIGTERM or SIGINT.

    `grace` and `delay` are seconds, as for `Runner`. `on_start` receives the actual port. Raises
    OSError when the address is not available.
    """
    raise_open_file_limit()
    terminated = _terminated_by_signals()
    runner = Runner(app, limits, grace=grace, delay=delay)
    with ExitStack() as sockets:
        listeners = [sockets.enter_context(listener) for listener in listen(host, port)]
        try:
            await runner.setup()
            for listener in listeners:
                await web.SockSite(runner, listener, backlog=_BACKLOG).start()
            runner.accept_from(listeners)
            port = listeners[0].getsockname()[1]
            log.info("serving on %s port %d", host, port)
            on_start(port)
            await terminated.wait()
            log.info("shutting down: requests in flight are answered first")
            await runner.announce_shutdown()
            stop_accepting(listeners)
            await runner.begin_drain()
        finally:
            await runner.cleanup()


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

"""gunicorn's side: the runner of a worker, and the hooks that `gunicorn.conf.py` needs.

gunicorn's objects are untyped. `reload`, `kill_workers` and `num_workers` of its `Arbiter` are not
documented; `tests/multiprocess` covers them.
"""

import gc
import mmap
import os
import signal
import socket
from collections.abc import Callable, Iterable
from math import ceil
from types import FrameType
from typing import Any, Final, cast

from aiohttp import web

from server.serving.connection_limits import Limits
from server.serving.run import Runner, stop_accepting

Handler = Callable[[int, FrameType | None], None]

_POLL_SECONDS: Final = 0.05
_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
_SERVICE_ENDS: Final = 1
_SOCKETS_CLOSE: Final = 2


class EndOfService:
    """Why workers end: a reload replaces them, or the service ends.

    A byte that a process shares with those that it forks. gunicorn sends its workers the same
    signal in both cases, so its master sets this first.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def announce(self, *, sockets_close: bool) -> None:
        """Set that the service ends; `sockets_close` unless another process goes on listening."""
        self._shared[0] = _SOCKETS_CLOSE if sockets_close else _SERVICE_ENDS

    @property
    def is_announced(self) -> bool:
        """Whether the service ends."""
        return self._shared[0] >= _SERVICE_ENDS

    @property
    def closes_sockets(self) -> bool:
        """Whether nothing will listen on the sockets any more."""
        return self._shared[0] == _SOCKETS_CLOSE


class WorkerRunner(Runner):
    """Runs one of several processes that accept from shared sockets, like gunicorn's workers.

    The other processes still hold the sockets, so the queue is accepted before the listener stops.
    `end` tells whether the service ends or only this process.
    """

    __slots__ = ("_end", "_listeners")

    def __init__(
        self,
        app: web.Application,
        limits: Limits | None = None,
        *,
        grace: float,
        delay: float = 0,
        listeners: Iterable[socket.socket] = (),
        end: EndOfService | None = None,
    ) -> None:
        super().__init__(app, limits, grace=grace, delay=delay)
        self._listeners = tuple(listeners)
        self._end = end or EndOfService()

    async def setup(self) -> None:
        """Start the application, and accept connections."""
        await super().setup()
        self.accept_from(self._listeners)

    def _begin_to_drain(self) -> None:
        """Close each connection with its response; after a reload others serve on, so no 503."""
        self._interface.draining.set()

    async def cleanup(self) -> None:
        """Accept the queued connections, then shut down like a single process."""
        if self._end.is_announced:
            await self.announce_shutdown()
        if self._end.closes_sockets:
            stop_accepting(self._listeners)
        await self.begin_drain()
        await super().cleanup()


class _Process:
    """What a master leaves to the workers that it forks, and what a worker knows of itself."""

    def __init__(self) -> None:
        self.end = EndOfService()
        self.listeners: tuple[socket.socket, ...] = ()


_process: Final = _Process()
"""gunicorn calls hooks and application factories without any object that could hold this."""


def worker_runner(
    app: web.Application, limits: Limits, *, grace: float, delay: float
) -> WorkerRunner:
    """Return what an application factory hands to gunicorn; `grace` and `delay` are seconds."""
    listeners, end = _process.listeners, _process.end
    return WorkerRunner(app, limits, grace=grace, delay=delay, listeners=listeners, end=end)


def address(host: str, port: int) -> str:
    """Return the value of `bind`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def whole_seconds(seconds: float) -> int:
    """Return the value of `graceful_timeout`, which is a whole number of seconds."""
    return max(1, ceil(seconds))


def log_config(level: str) -> dict[str, Any]:
    """Return the value of `logconfig_dict`: gunicorn's records go to the log of the service."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {},  # the application sets it
        "loggers": {
            "gunicorn.error": {"level": level, "handlers": [], "propagate": True},
            "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
        },
    }


def prepare_master(
    server: Any, *, may_reload: Callable[[], bool], delay: Callable[[], float]
) -> None:
    """Prepare the master for SIGHUP, SIGTERM and SIGINT: call it in the hook `when_ready`.

    `may_reload` is asked at SIGHUP, since gunicorn's master exits when its configuration file
    fails. `delay` returns the present delay of the shutdown, in seconds.
    """
    reload = server.reload

    def reload_if_valid() -> None:
        if may_reload():
            reload()

    server.reload = reload_if_valid
    _stop_accepting_on_sigterm(server, delay)
    _end_at_once_on_a_second_sigint(server)
    _handle_in_master(signal.SIGQUIT, cast("Handler", signal.getsignal(signal.SIGQUIT)))


def _handle_in_master(number: signal.Signals, handler: Handler) -> None:
    """Handle a signal in the master, and let it end a worker that has just been forked."""
    master = os.getpid()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if os.getpid() != master:
            raise SystemExit
        handler(number, frame)

    signal.signal(number, on_signal)


def _stop_accepting_on_sigterm(server: Any, delay: Callable[[], float]) -> None:
    """Stop accepting connections before the master closes its copy of the sockets.

    Only the master knows that all workers end: a replaced worker shares its sockets with others.
    The workers get SIGTERM at once: the master may be waiting for those that a reload replaced.
    """
    proceed = cast("Handler", signal.getsignal(signal.SIGTERM))

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        if server.reexec_pid == server.master_pid == 0:  # else another master (USR2) goes on
            _end_service(server, delay())
        server.num_workers = 0  # none is started again, as after SIGWINCH
        server.kill_workers(signal.SIGTERM)
        proceed(number, frame)

    _handle_in_master(signal.SIGTERM, on_sigterm)


def _end_at_once_on_a_second_sigint(server: Any) -> None:
    """Let the second SIGINT kill the workers and the master, as it ends a single process."""
    proceed = cast("Handler", signal.getsignal(signal.SIGINT))

    def on_first(number: int, frame: FrameType | None) -> None:
        _handle_in_master(signal.SIGINT, on_second)
        proceed(number, frame)

    def on_second(number: int, _: FrameType | None) -> None:
        server.kill_workers(signal.SIGKILL)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    _handle_in_master(signal.SIGINT, on_first)


def _end_service(server: Any, delay: float) -> None:
    """Tell the workers that they are not replaced. With a delay, they stop accepting after it."""
    closes = not server.systemd  # systemd keeps listening
    _process.end.announce(sockets_close=closes)
    if closes and not delay:
        stop_accepting(listener.sock for listener in server.LISTENERS)


def post_fork(_server: Any, _worker: Any) -> None:
    """Block what ends a worker until its event loop runs: uvloop would miss it before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


def post_worker_init(worker: Any) -> None:
    """React to SIGTERM at once: aiohttp's worker polls once a second. Restore the backlog."""
    worker.loop.add_signal_handler(signal.SIGTERM, worker.handle_quit, signal.SIGTERM, None)
    worker.loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, _ENDING)
    _restore_backlog(worker)
    _process.listeners = tuple(listener.sock for listener in worker.sockets)


def _restore_backlog(worker: Any) -> None:
    """Set the backlog again once the worker listens: aiohttp's worker has set it to 128."""
    if worker.booted:
        for listener in worker.sockets:
            listener.sock.listen(worker.cfg.backlog)
    else:
        worker.loop.call_later(_POLL_SECONDS, _restore_backlog, worker)


def worker_exit(_server: Any, _worker: Any) -> None:
    """Skip the last garbage collection, which takes a quarter of a second."""
    gc.freeze()

"""Functions for `gunicorn.conf.py`: its values, and the hooks that gunicorn calls.

gunicorn's objects are untyped. `reload`, `kill_workers` and `num_workers` of its `Arbiter` are not
documented; `tests/multiprocess` covers them.
"""

import gc
import os
import shutil
import signal
from math import ceil
from pathlib import Path
from types import FrameType
from typing import Any, Final

from server.config import Settings
from server.observability.multiprocess import METRICS_DIRECTORY, TEMPORARY_PREFIX
from server.serving.master_configuration import MASTER
from server.serving.socket_drain import stop_accepting

_POLL_SECONDS: Final = 0.05


def address(host: str, port: int) -> str:
    """Return the value of `bind`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def whole_seconds(seconds: float) -> int:
    """Return the value of `graceful_timeout`, which is a whole number of seconds."""
    return max(1, ceil(seconds))


def log_config(settings: Settings) -> dict[str, Any]:
    """Return the value of `logconfig_dict`: gunicorn's records go to the log of the service."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {},  # server.observability.log_records.configure_logging sets it
        "loggers": {
            "gunicorn.error": {"level": settings.log_level, "handlers": [], "propagate": True},
            "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
        },
    }


def on_starting(server: Any) -> None:
    """Check what depends on the number of workers, and delete the metrics of an earlier master.

    A second master (USR2) keeps those of the first.
    """
    MASTER.check_processes(server.cfg.workers)
    if METRICS_DIRECTORY in os.environ and "GUNICORN_PID" not in os.environ:
        for file in Path(os.environ[METRICS_DIRECTORY]).glob("*.db"):
            file.unlink()


def when_ready(server: Any) -> None:
    """Prepare the master for SIGHUP and SIGTERM."""
    _reload_valid_configurations_only(server)
    _stop_accepting_on_sigterm(server)


def _reload_valid_configurations_only(server: Any) -> None:
    """Check the configuration before a reload: gunicorn's master exits when its file fails."""
    reload = server.reload

    def reload_if_valid() -> None:
        if MASTER.reload():
            reload()

    server.reload = reload_if_valid


def _stop_accepting_on_sigterm(server: Any) -> None:
    """Stop accepting connections before the master closes its copy of the sockets.

    Only the master knows that all workers end: a replaced worker shares its sockets with others.
    The workers get SIGTERM at once: the master may be waiting for those that a reload replaced.
    """
    master, proceed = os.getpid(), signal.getsignal(signal.SIGTERM)

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        if os.getpid() != master:
            raise SystemExit  # a worker that is starting and serves no request yet
        if server.reexec_pid == server.master_pid == 0:  # else another master (USR2) goes on
            _end_service(server)
        server.num_workers = 0  # none is started again, as after SIGWINCH
        server.kill_workers(signal.SIGTERM)
        if callable(proceed):
            proceed(number, frame)

    signal.signal(signal.SIGTERM, on_sigterm)


def _end_service(server: Any) -> None:
    """Tell the workers that they are not replaced. With a delay, they stop accepting after it."""
    closes = not server.systemd  # systemd keeps listening
    MASTER.end.announce(sockets_close=closes)
    if closes and not MASTER.get().settings.shutdown_delay_seconds:
        stop_accepting(listener.sock for listener in server.LISTENERS)


def pre_exec(server: Any) -> None:
    """Let a second master (USR2) create its own metrics folder: this master deletes its own."""
    inherited = server.cfg.env_orig
    if Path(inherited.get(METRICS_DIRECTORY, "")).name.startswith(TEMPORARY_PREFIX):
        del inherited[METRICS_DIRECTORY]


def post_fork(_server: Any, _worker: Any) -> None:
    """Block SIGTERM in a worker until its event loop runs: uvloop would miss it before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def post_worker_init(worker: Any) -> None:
    """React to SIGTERM at once: aiohttp's worker polls once a second. Restore the backlog."""
    worker.loop.add_signal_handler(signal.SIGTERM, worker.handle_quit, signal.SIGTERM, None)
    worker.loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, {signal.SIGTERM})
    _restore_backlog(worker)
    MASTER.listeners = tuple(listener.sock for listener in worker.sockets)


def _restore_backlog(worker: Any) -> None:
    """Set the backlog again once the worker listens: aiohttp's worker has set it to 128."""
    if worker.booted:
        for listener in worker.sockets:
            listener.sock.listen(worker.cfg.backlog)
    else:
        worker.loop.call_later(_POLL_SECONDS, _restore_backlog, worker)


def child_exit(_: Any, worker: Any) -> None:
    """Delete the gauges of a process that has ended; its counters still count."""
    if METRICS_DIRECTORY in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # prometheus_client's


def worker_exit(_server: Any, _worker: Any) -> None:
    """Skip the last garbage collection, which takes a quarter of a second."""
    gc.freeze()


def on_exit(_: Any) -> None:
    """Delete the metrics folder if this process created it, and let the master end quickly."""
    gc.freeze()
    folder = Path(os.environ.get(METRICS_DIRECTORY, ""))
    if folder.name.startswith(TEMPORARY_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)

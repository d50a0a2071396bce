"""Several processes under gunicorn: what `gunicorn.conf.py` sets, and what is done when.

gunicorn's own objects come untyped; what is used of them here is in its documentation.
"""

import os
import shutil
import signal
from math import ceil
from pathlib import Path
from types import FrameType
from typing import Any

from server.config import Settings
from server.observability.multiprocess import METRICS_DIRECTORY, TEMPORARY_PREFIX
from server.serving.socket_drain import stop_accepting


def address(host: str, port: int) -> str:
    """Write where to listen as gunicorn reads it: an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def whole_seconds(grace: float) -> int:
    """Give gunicorn's time for leaving, which it takes in whole seconds."""
    return max(1, ceil(grace))


def log_config(settings: Settings) -> dict[str, Any]:
    """Have gunicorn's own lines go where the service's go, in the same format."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {},  # server.observability.logging.configure_logging sees to it
        "loggers": {
            "gunicorn.error": {"level": settings.log_level, "handlers": [], "propagate": True},
            "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
        },
    }


def on_starting(_: Any) -> None:
    """Forget what processes of an earlier life counted; a second master (USR2) keeps it."""
    if METRICS_DIRECTORY in os.environ and "GUNICORN_PID" not in os.environ:
        for left in Path(os.environ[METRICS_DIRECTORY]).glob("*.db"):
            left.unlink()


def when_ready(server: Any) -> None:
    """Have the master, told to leave, shut the door before it closes its copy of the sockets.

    Only it knows that everybody leaves: a worker that is merely replaced shares them with others.
    """
    master, proceed = os.getpid(), signal.getsignal(signal.SIGTERM)

    def leave(number: int, frame: FrameType | None) -> None:
        if os.getpid() != master:
            raise SystemExit  # a worker that is just being born, and serves nobody yet
        # Another master (USR2) or systemd goes on with the very same sockets.
        if server.reexec_pid == server.master_pid == 0 and not server.systemd:
            stop_accepting(listener.sock for listener in server.LISTENERS)
        if callable(proceed):
            proceed(number, frame)

    signal.signal(signal.SIGTERM, leave)


def pre_exec(server: Any) -> None:
    """Have a second master (USR2) make a folder of its own: one made here goes with this master."""
    inherited = server.cfg.env_orig
    if Path(inherited.get(METRICS_DIRECTORY, "")).name.startswith(TEMPORARY_PREFIX):
        del inherited[METRICS_DIRECTORY]


def post_fork(_server: Any, _worker: Any) -> None:
    """Hold SIGTERM back from a worker until its event loop runs: uvloop would miss it before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def post_worker_init(worker: Any) -> None:
    """Have a worker leave as soon as it is told to; aiohttp's would look only once a second."""
    worker.loop.add_signal_handler(signal.SIGTERM, worker.handle_quit, signal.SIGTERM, None)
    worker.loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, {signal.SIGTERM})


def child_exit(_: Any, worker: Any) -> None:
    """Drop the states that a process which is gone was in; what it counted still counts."""
    if METRICS_DIRECTORY in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # prometheus_client's


def on_exit(_: Any) -> None:
    """Remove the folder of the metrics, if it was made here."""
    folder = Path(os.environ.get(METRICS_DIRECTORY, ""))
    if folder.name.startswith(TEMPORARY_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)

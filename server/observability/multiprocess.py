"""The directory in which several processes share their metrics, and gunicorn's hooks for it.

prometheus_client maps a file for each process and kind of metric into memory. Where the file has no
room, writing to it kills the process (SIGBUS), so each process takes the room before.
"""

import fcntl
import logging
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any, Final

METRICS_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that prometheus_client reads, when it is first imported."""

TEMPORARY_PREFIX: Final = "vapi-sessions-metrics-"

_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108  a folder of its own is created in it
_NEW_SECONDS: Final = 60.0
_KINDS: Final = ("counter", "histogram", "gauge_livemax", "gauge_livemin", "gauge_livesum")
_FILE_BYTES: Final = 65536
"""What prometheus_client would map at first; the metrics of a process take less than a half."""

log = logging.getLogger(__name__)


def prepare_metrics_directory(*, enabled: bool) -> None:
    """Create the directory for shared metrics, in memory if possible, unless one is configured.

    Call it before prometheus_client is first imported.
    """
    if not enabled:
        os.environ.pop(METRICS_DIRECTORY, None)
    elif METRICS_DIRECTORY in os.environ:
        Path(os.environ[METRICS_DIRECTORY]).mkdir(parents=True, exist_ok=True)
    else:
        parent = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
        _delete_abandoned(parent)
        os.environ[METRICS_DIRECTORY] = made = tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent)
        _lock(Path(made))  # for as long as this process, or one that it forks, runs


def _lock(folder: Path) -> int:
    """Lock a directory; return the descriptor that holds the lock. Raises OSError if it is held."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _delete_abandoned(parent: Path) -> None:
    """Delete the directories of masters that were killed: in memory they would never go."""
    for folder in parent.glob(f"{TEMPORARY_PREFIX}*"):
        with suppress(OSError):  # another user's, or in use
            if time() - folder.stat().st_mtime > _NEW_SECONDS:  # else it may not be locked yet
                descriptor = _lock(folder)
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)


def take_room() -> bool:
    """Take the room for the shared metrics of this process; do nothing where none are shared.

    Returns False, after a WARNING, when there is no room: then no metric must be created.
    """
    if METRICS_DIRECTORY not in os.environ:
        return True
    paths = [Path(os.environ[METRICS_DIRECTORY], f"{kind}_{os.getpid()}.db") for kind in _KINDS]
    try:
        for path in paths:
            with path.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)
    except OSError as error:
        log.warning("%s has no room: this process has no metrics (%s)", paths[0].parent, error)
        for path in paths:
            path.unlink(missing_ok=True)
        return False
    return True


def delete_earlier_metrics() -> None:
    """Delete the metrics of an earlier master; a second master (USR2) keeps those of the first."""
    if METRICS_DIRECTORY in os.environ and "GUNICORN_PID" not in os.environ:
        for file in Path(os.environ[METRICS_DIRECTORY]).glob("*.db"):
            file.unlink()


def pre_exec(server: Any) -> None:
    """Let a second master (USR2) create its own directory: this master deletes its own."""
    inherited = server.cfg.env_orig
    if Path(inherited.get(METRICS_DIRECTORY, "")).name.startswith(TEMPORARY_PREFIX):
        del inherited[METRICS_DIRECTORY]


def child_exit(_: Any, worker: Any) -> None:
    """Delete the gauges of a process that has ended. Its counters still count: give room back."""
    if METRICS_DIRECTORY not in os.environ:
        return
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # prometheus_client's
    for path in Path(os.environ[METRICS_DIRECTORY]).glob(f"*_{worker.pid}.db"):
        with path.open("rb") as file:
            used = int.from_bytes(file.read(4), sys.byteorder)
        os.truncate(path, used)


def on_exit(_: Any) -> None:
    """Delete the directory if this process created it."""
    folder = Path(os.environ.get(METRICS_DIRECTORY, ""))
    if folder.name.startswith(TEMPORARY_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)

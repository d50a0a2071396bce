"""The directory in which several processes share their metrics, and gunicorn's hooks for it."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

METRICS_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that prometheus_client reads, when it is first imported."""

TEMPORARY_PREFIX: Final = "vapi-sessions-metrics-"


def prepare_metrics_directory(*, enabled: bool) -> None:
    """Create the directory for shared metrics, unless the operator configured one.

    Call it before prometheus_client is first imported.
    """
    if not enabled:
        os.environ.pop(METRICS_DIRECTORY, None)
    elif METRICS_DIRECTORY in os.environ:
        Path(os.environ[METRICS_DIRECTORY]).mkdir(parents=True, exist_ok=True)
    else:
        os.environ[METRICS_DIRECTORY] = tempfile.mkdtemp(prefix=TEMPORARY_PREFIX)


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
    """Delete the gauges of a process that has ended; its counters still count."""
    if METRICS_DIRECTORY in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # prometheus_client's


def on_exit(_: Any) -> None:
    """Delete the directory if this process created it."""
    folder = Path(os.environ.get(METRICS_DIRECTORY, ""))
    if folder.name.startswith(TEMPORARY_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)

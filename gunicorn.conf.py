"""The configuration of gunicorn, which reads this file when it is started in this folder.

    gunicorn server.app:app_factory -k aiohttp.GunicornUVLoopWebWorker -w 2

Options on the command line take precedence. An invalid configuration ends the master with 78 at
start; at a reload (SIGHUP) it is logged, and the last valid one stays in use. The hooks are in
`server/serving/gunicorn.py`, those for the metrics in `server/observability/multiprocess.py`.
"""

import logging
from pathlib import Path
from typing import Any

import server.app  # noqa: F401  workers inherit the code
from server import __version__
from server.master_configuration import MASTER
from server.observability.log_records import configure_logging
from server.observability.multiprocess import (  # noqa: F401  gunicorn calls these by their names
    child_exit,
    delete_earlier_metrics,
    on_exit,
    pre_exec,
    prepare_metrics_directory,
)
from server.serving import gunicorn as hooks
from server.serving.gunicorn import (  # noqa: F401  gunicorn calls these by their names
    post_fork,
    post_worker_init,
    worker_exit,
)
from server.serving.server import raise_open_file_limit

_configuration = MASTER.get()
_settings = _configuration.settings
configure_logging(_settings.log_level, _settings.log_format, forks=True)
logging.getLogger("server").info("version %s", __version__)
_configuration.log_warnings()
raise_open_file_limit()
prepare_metrics_directory(enabled=_settings.metrics_enabled)

wsgi_app = "server.app:app_factory"
worker_class = "aiohttp.GunicornUVLoopWebWorker"
bind = hooks.address(_settings.host, _settings.port)
backlog = 1024
graceful_timeout = hooks.whole_seconds(
    _settings.shutdown_delay_seconds + _settings.shutdown_grace_seconds
)
# A worker that shuts down sends no heartbeats: it must not be treated as one that hangs.
timeout = 30 + graceful_timeout
logconfig_dict = hooks.log_config(_settings.log_level)
# Heartbeats go through a file, in memory where possible: a slow disk does not block a worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  gunicorn names the file
# The control socket is not used, and the folder may be read-only.
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Check what depends on the number of workers, and delete the metrics of an earlier master."""
    MASTER.prepare_for(server.cfg.workers)
    delete_earlier_metrics()


def when_ready(server: Any) -> None:
    """Prepare the master for SIGHUP and SIGTERM."""
    hooks.prepare_master(
        server,
        may_reload=MASTER.reload,
        delay=lambda: MASTER.get().settings.shutdown_delay_seconds,
    )

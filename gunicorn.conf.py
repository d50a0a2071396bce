"""gunicorn reads this file by itself where it is started in this folder.

    gunicorn server.app:app_factory -k aiohttp.GunicornUVLoopWebWorker -w 2

Options on the command line win. A configuration that does not hold ends the master with 78, before
any worker is started. `server/serving/gunicorn_hooks.py` has what is done when, and why.
"""

from pathlib import Path

from server.observability.logging import configure_logging
from server.observability.multiprocess import prepare_metrics_directory
from server.serving import gunicorn_hooks as fleet
from server.serving.gunicorn_hooks import (  # noqa: F401  gunicorn calls these by their names
    child_exit,
    on_exit,
    on_starting,
    post_fork,
    post_worker_init,
    pre_exec,
    when_ready,
)
from server.serving.process import load_or_exit, raise_open_file_limit

_configuration = load_or_exit()
_settings = _configuration.settings
configure_logging(_settings.log_level, _settings.log_format, forks=True)
_configuration.log_warnings()
raise_open_file_limit()
prepare_metrics_directory(enabled=_settings.metrics_enabled)

wsgi_app = "server.app:app_factory"
worker_class = "aiohttp.GunicornUVLoopWebWorker"
bind = fleet.address(_settings.host, _settings.port)
backlog = 1024
graceful_timeout = fleet.whole_seconds(_settings.shutdown_grace_seconds)
# A worker that leaves is silent while it does: it must not be taken for one that hangs.
timeout = 30 + graceful_timeout
logconfig_dict = fleet.log_config(_settings)
# Heartbeats go through a file: in memory, where one can be, so that no slow disk stops a worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  gunicorn names the file
# Nothing is to be steered from outside, and the folder may be read-only.
control_socket_disable = True

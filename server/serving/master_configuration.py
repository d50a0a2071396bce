"""The configuration of gunicorn's master, which its workers inherit."""

import logging
import socket
from typing import Final

from server.config.loader import Configuration, SettingsError, load_configuration
from server.serving.end_of_service import EndOfService
from server.serving.process import EX_CONFIG, load_or_exit

log = logging.getLogger(__name__)

WORKER_BOOT_ERROR: Final = 3
"""gunicorn's `Arbiter.WORKER_BOOT_ERROR`: the exit status of a worker that also ends the master."""


class MasterConfiguration:
    """The last valid configuration of this process and of the process that forked it.

    `listeners` are the sockets of a worker, and `end` tells it why it ends.
    """

    def __init__(self) -> None:
        self.listeners: tuple[socket.socket, ...] = ()
        self.end = EndOfService()
        self._current: Configuration | None = None

    def get(self, status: int = EX_CONFIG) -> Configuration:
        """Return the configuration; load it the first time, or exit with `status` on a fault."""
        if self._current is None:
            self._current = load_or_exit(status)
        return self._current

    def reload(self) -> bool:
        """Load the configuration again; on a fault, log all faults, keep it, and return False."""
        try:
            self._current = load_configuration()
        except SettingsError as error:
            for line in (*error.faults, *error.warnings):
                log.error("invalid configuration, the last valid one stays in use: %s", line)
            return False
        return True


MASTER: Final = MasterConfiguration()
"""State of the process, because gunicorn executes its configuration file again at each reload and
calls `app_factory` without arguments."""

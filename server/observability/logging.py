"""The configuration of logging: records go to standard error, as JSON or for a console."""

import logging
import sys
from typing import Final

from pythonjsonlogger.json import JsonFormatter

CONSOLE_FORMAT: Final = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"
JSON_FORMAT: Final = "%(levelname)s %(name)s %(message)s"


def configure_logging(level: str, style: str) -> None:
    """Configure the logging of this process; not for use inside a host application."""
    handler = logging.StreamHandler(sys.stderr)
    formatter: logging.Formatter = logging.Formatter(CONSOLE_FORMAT)
    if style == "json":
        names = {"levelname": "level", "name": "logger"}
        formatter = JsonFormatter(JSON_FORMAT, rename_fields=names, timestamp=True)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # coredis logs each lost connection; `server.redis.client` logs outages, once each.
    logging.getLogger("coredis").setLevel(logging.CRITICAL)

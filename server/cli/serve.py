"""`python -m server` and `python -m server serve`: serve until SIGTERM or SIGINT."""

import argparse
import logging

import uvloop

from server import __version__
from server.app import connection_limits, create_app
from server.cli.arguments import CommandFailed
from server.config.loader import Configuration
from server.serving.run import serve

log = logging.getLogger(__name__)


def run(configuration: Configuration, _: argparse.Namespace) -> int:
    """Serve until the process is terminated."""
    configuration.log_warnings()
    settings = configuration.settings

    def log_version(_: int) -> None:
        log.info("version %s", __version__)

    serving = serve(
        create_app(settings),
        settings.host,
        settings.port,
        connection_limits(settings),
        grace=settings.shutdown_grace_seconds,
        delay=settings.shutdown_delay_seconds,
        on_start=log_version,
    )
    try:
        uvloop.run(serving)
    except OSError as error:
        text = f"Cannot serve on {settings.host} port {settings.port}: {error.strerror}"
        raise CommandFailed(text) from None
    return 0

"""The command line: `python -m server COMMAND`, one module for each command."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Final

from server import __version__
from server.cli import (
    calls,
    check,
    end,
    pause,
    resume,
    revocations,
    revoke,
    serve,
    token,
    unrevoke,
)
from server.cli.arguments import Command
from server.observability.log_records import configure_logging
from server.serving.process import load_or_exit

_COMMANDS: Final[Mapping[str, Command]] = {
    "serve": serve,
    "check": check,
    "token": token,
    "revoke": revoke,
    "unrevoke": unrevoke,
    "revocations": revocations,
    "pause": pause,
    "resume": resume,
    "calls": calls,
    "end": end,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status.

    The status is 0, 1 (failed), 2 (wrong arguments) or 78 (invalid configuration).
    """
    parsed = _parser().parse_args(arguments)
    configuration = load_or_exit()
    configure_logging(configuration.settings.log_level, configuration.settings.log_format)
    status: int = parsed.run(configuration, parsed)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m server",
        description="A session-credential broker for Vapi. config.example.env documents the "
        "settings, which come from the environment or from .env in this folder.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(run=serve.run)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in _COMMANDS.items():
        own = commands.add_parser(name, help=command.HELP)
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return parser

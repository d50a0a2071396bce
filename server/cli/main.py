"""The command line: `python -m server COMMAND`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from server import __version__
from server.cli import access, calls, check, serve, token
from server.cli.arguments import CommandFailed, add_json, add_nothing
from server.config.loader import Configuration, load_or_exit
from server.observability.log_records import configure_logging

AddArguments = Callable[[argparse.ArgumentParser], None]
Run = Callable[[Configuration, argparse.Namespace], int]
"""Runs a command; returns its exit status. Raises `CommandFailed`."""

_COMMANDS: Final[Sequence[tuple[str, str, AddArguments, Run]]] = [
    ("serve", "serve (the default)", add_nothing, serve.run),
    ("check", check.HELP, check.add_arguments, check.run),
    ("token", "print a patient token, signed with JWT_SECRET", token.add_arguments, token.run),
    ("revoke", "revoke a token or all tokens of a patient", access.add_revoke, access.revoke),
    (
        "unrevoke",
        "lift a revocation",
        access.add_subject,
        access.unrevoke,
    ),
    ("revocations", "list what is revoked, and until when", add_json, access.revocations),
    ("pause", "pause all sessions of all processes", access.add_pause, access.pause),
    ("resume", "end the pause of all sessions", add_nothing, access.resume),
    ("calls", "list the calls in progress", add_json, calls.calls),
    ("end", "end calls in progress", calls.add_end, calls.end),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status.

    The status is 0, 1 (failed), 2 (wrong arguments) or 78 (invalid configuration).
    """
    parsed = _parser().parse_args(arguments)
    configuration = load_or_exit()
    configure_logging(configuration.settings.log_level, configuration.settings.log_format)
    run: Run = parsed.run
    try:
        return run(configuration, parsed)
    except CommandFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m server",
        description="A session-credential broker for Vapi. config.example.env documents the "
        "settings, which come from the environment or from .env in this folder.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(run=serve.run)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, text, add_arguments, run in _COMMANDS:
        command = commands.add_parser(name, help=text)
        add_arguments(command)
        command.set_defaults(run=run)
    return parser

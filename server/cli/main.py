"""The command line, `python -m server COMMAND`: every argument, and the command `serve`."""

import argparse
import asyncio
import logging
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from typing import Any, Final

import uvloop
from yarl import URL

from server import __version__
from server.app import connection_limits, create_app
from server.cli import CommandFailed
from server.config.loader import Configuration, load_or_exit
from server.observability.log_records import configure_logging
from server.serving.run import serve

log = logging.getLogger(__name__)

_MAX_SECONDS: Final = 10**9
_MAX_LINE_BYTES: Final = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status.

    The status is 0, 1 (failed), 2 (wrong arguments) or 78 (invalid configuration).
    """
    parsed = _parser().parse_args(arguments)
    configuration = load_or_exit()
    configure_logging(configuration.settings.log_level, configuration.settings.log_format)
    command: Command = parsed.command
    run = uvloop.run if command is _serve else asyncio.run
    try:
        return run(command(configuration, parsed))
    except CommandFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m server",
        description="A session-credential broker for Vapi. config.example.env documents the "
        "settings, which come from the environment or from .env in this folder.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(command=_serve)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, text, add_arguments, command in _COMMANDS:
        subparser = commands.add_parser(name, help=text)
        add_arguments(subparser)
        subparser.set_defaults(command=command)
    return parser


async def _serve(configuration: Configuration, _: Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    configuration.log_warnings()
    settings = configuration.settings
    app = create_app(settings)
    try:
        await serve(
            app,
            settings.host,
            settings.port,
            connection_limits(settings),
            grace=settings.shutdown_grace_seconds,
            delay=settings.shutdown_delay_seconds,
            on_start=lambda _: log.info("version %s", __version__),
        )
    except OSError as error:
        text = f"Cannot serve on {settings.host} port {settings.port}: {error.strerror}"
        raise CommandFailed(text) from None
    return 0


def _add_nothing(_: ArgumentParser) -> None:
    """Declare no arguments."""


def _add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON document")


def _add_check(parser: ArgumentParser) -> None:
    _add_json(parser)
    parser.add_argument(
        "--service",
        metavar="URL",
        type=_service_address,
        help="the running service; default: http://127.0.0.1:PORT",
    )
    parser.add_argument(
        "--token",
        metavar="-",
        type=_standard_input,
        help="explain rule by rule whether a patient token is accepted; it is read from standard "
        "input, because arguments are visible to other processes",
    )
    parser.add_argument(
        "--dpop", metavar="FILE", help="with --token: check this DPoP proof of a request too"
    )


def _add_token(parser: ArgumentParser) -> None:
    text = "the patient id; - reads it from standard input"
    parser.add_argument("--patient", metavar="ID", required=True, type=_patient, help=text)
    _add_for(parser, "its lifetime; default: an hour, or JWT_MAX_LIFETIME_SECONDS")


def _add_subject(parser: ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--jti", metavar="ID", help="the token, by its jti claim")
    text = "every token of the patient; - reads the id from standard input"
    which.add_argument("--patient", metavar="ID", type=_patient, help=text)


def _add_revoke(parser: ArgumentParser) -> None:
    _add_subject(parser)
    parser.add_argument("--end-calls", action="store_true", help="end the patient's calls too")
    _add_for(parser, "default: the longest lifetime of a token by the settings, else a year")


def _add_pause(parser: ArgumentParser) -> None:
    _add_for(parser, "default: until the command `resume`")
    parser.add_argument("--end-calls", action="store_true", help="end the calls in progress too")
    parser.add_argument("--reason", metavar="TEXT", default="", help="for the log of the service")


def _add_end(parser: ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--call", metavar="ID", help="the call with this id")
    text = "the patient's calls; - reads the id from standard input"
    which.add_argument("--patient", metavar="ID", type=_patient, help=text)
    which.add_argument("--all", action="store_true", help="all calls with a proof of ours")


def _add_for(parser: ArgumentParser, text: str) -> None:
    parser.add_argument("--for", dest="seconds", metavar="SECONDS", type=_seconds, help=text)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= _MAX_SECONDS):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {_MAX_SECONDS}")
    return int(text)


def _patient(text: str) -> str:
    """Return a patient id: for `-` that of standard input, which other processes cannot see."""
    if text != "-":
        return text
    line = sys.stdin.buffer.readline(_MAX_LINE_BYTES).decode("utf-8", "replace")
    return line.removesuffix("\n").removesuffix("\r")


def _standard_input(text: str) -> str:
    if text != "-":  # the message must not repeat what may be a token
        raise argparse.ArgumentTypeError("give - and write the token to standard input")
    return text


def _service_address(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise argparse.ArgumentTypeError("give the service's address, http:// or https://")
    return url


AddArguments = Callable[[ArgumentParser], None]
Command = Callable[[Configuration, Namespace], Coroutine[Any, Any, int]]
"""Runs a command; returns its exit status. Raises `CommandFailed`."""


def _in(module: str, function: str) -> Command:
    """Return a command of `server/cli`, whose module is imported when the command runs."""

    def run(configuration: Configuration, arguments: Namespace) -> Coroutine[Any, Any, int]:
        command: Command = getattr(import_module(f"server.cli.{module}"), function)
        return command(configuration, arguments)

    return run


_COMMANDS: Final[Sequence[tuple[str, str, AddArguments, Command]]] = [
    ("serve", "serve (the default)", _add_nothing, _serve),
    (
        "check",
        "check the configuration, and that Vapi, the keys, Redis and the service answer",
        _add_check,
        _in("check", "run"),
    ),
    ("token", "print a patient token, signed with JWT_SECRET", _add_token, _in("token", "run")),
    ("revoke", "revoke a token or all tokens of a patient", _add_revoke, _in("access", "revoke")),
    ("unrevoke", "lift a revocation", _add_subject, _in("access", "unrevoke")),
    (
        "revocations",
        "list what is revoked, and until when",
        _add_json,
        _in("access", "revocations"),
    ),
    ("pause", "pause all sessions of all processes", _add_pause, _in("access", "pause")),
    ("resume", "end the pause of all sessions", _add_nothing, _in("access", "resume")),
    ("calls", "list the calls in progress", _add_json, _in("calls", "calls")),
    ("end", "end calls in progress", _add_end, _in("calls", "end")),
]

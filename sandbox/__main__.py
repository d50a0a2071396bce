"""`python -m sandbox`: serves as configured, or in development mode without a configuration."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex

import uvloop

from sandbox.banner import banner
from sandbox.development import MOBILE_PORT, Companions, create_development
from sandbox.serving import HOST, bind, bind_if_free, origin
from sandbox.settings import development_settings, is_configured, wants_other_hosts
from server.cli import main as commands
from server.config.loader import EX_CONFIG, SettingsError
from server.observability.log_records import configure_logging
from server.serving.run import serve


async def develop(environ: Mapping[str, str]) -> int:
    """Serve in development mode until terminated; return the exit status."""
    if wants_other_hosts(environ):
        sys.stderr.write(f"HOST is ignored: development mode serves on {HOST} only.\n")
    secret = token_hex(32)
    with (
        bind() as vapi,
        bind() as lab,
        bind() as tokens,
        bind() as tools,
        bind_if_free(MOBILE_PORT) as mobile,
    ):
        settings = development_settings(environ, origin(vapi))
        configure_logging(settings.log_level, settings.log_format)
        companions = Companions(vapi=vapi, lab=lab, tokens=tokens, tools=tools, mobile=mobile)
        app = create_development(settings, companions, secret)
        try:
            await serve(
                app,
                settings.host,
                settings.port,
                grace=settings.shutdown_grace_seconds,
                on_start=lambda _: print(banner(settings, secret, mobile=mobile), flush=True),
            )
        except OSError as error:
            sys.stderr.write(f"Cannot serve on port {settings.port}: {error.strerror}\n")
            return 1
    return 0


def main() -> int:
    """Run the configured service or development mode; return the exit status."""
    if is_configured(os.environ, Path(".env")):
        return commands.main([])
    try:
        return uvloop.run(develop(os.environ))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EX_CONFIG


if __name__ == "__main__":
    raise SystemExit(main())

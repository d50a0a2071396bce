"""The command line: `python -m server`, with `serve`, `check`, `token` and `revoke`."""

from server.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())

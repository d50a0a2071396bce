"""The command line: `python -m server`, see `server/cli`."""

import gc

from server.cli.main import main

if __name__ == "__main__":
    status = main()
    gc.freeze()  # otherwise the last garbage collection takes a quarter of a second
    raise SystemExit(status)

"""The command line: `python -m server`, with `serve`, `check`, `token` and `revoke`."""

import gc

from server.cli.main import main

if __name__ == "__main__":
    status = main()
    gc.freeze()  # else collecting garbage takes a quarter of a second at the end
    raise SystemExit(status)

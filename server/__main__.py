"""The command line: `python -m server`, see `server/cli`."""

import gc

if __name__ == "__main__":
    gc.disable()  # the imports leave no garbage, and looking for it takes a tenth of the start
    from server.cli.main import main

    gc.enable()
    status = main()
    gc.freeze()  # otherwise the last garbage collection takes a quarter of a second
    raise SystemExit(status)

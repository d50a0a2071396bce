"""The command line: `main` has the commands and their arguments."""


class CommandFailed(Exception):  # noqa: N818  it ends a command, and is no defect
    """Ends a command with the exit status 1; its text tells the operator why."""

"""The command line: `main` has the table of commands."""

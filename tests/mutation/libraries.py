"""Imports what tests import, once for all processes; each imports the project's code anew."""

from importlib import import_module

from tests.mutation.runner import PLUGINS

for name in (*PLUGINS, "joserfc.jws", "jsonschema", "server.cli.main", "tests.conftest"):
    import_module(name)

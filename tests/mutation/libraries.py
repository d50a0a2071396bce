"""Imports what tests import, once for all processes; each imports the project's code anew."""

from importlib import import_module

from tests.mutation.runner import PLUGINS

_LIBRARIES = ("aioresponses", "joserfc.jws", "jsonschema", "openapi_spec_validator")

for name in (*PLUGINS, *_LIBRARIES, "server.cli.main", "tests.conftest"):
    import_module(name)

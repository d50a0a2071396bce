"""What the service uses of aiohttp's private interface still exists."""

import ast
from pathlib import Path

import pytest
from aiohttp.base_protocol import BaseProtocol

from server.serving import connection

USED = {
    "_loop": (BaseProtocol, "the event loop"),
    "_reading_paused": (BaseProtocol, "True while reading is paused until a body is read"),
}


@pytest.mark.parametrize("name", USED)
def test_attribute_exists(name: str) -> None:
    owner, meaning = USED[name]
    assert hasattr(owner, name), (
        f"aiohttp's {owner.__name__} no longer has {name} ({meaning}): "
        "adapt server/serving/connection.py"
    )


def test_list_of_attributes_is_complete() -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(Path(connection.__file__).read_text()))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_")
    }
    own = set(vars(connection.Connection))
    assert used - own - {"__traceback__", "__init__"} == set(USED)

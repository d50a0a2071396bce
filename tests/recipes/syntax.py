"""Reads the Kotlin, Swift and Dart recipes with tree-sitter: their syntax, and what they use."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import tree_sitter_dart
import tree_sitter_kotlin
import tree_sitter_swift
from tree_sitter import Language, Node, Parser

_LANGUAGES = {
    "kotlin": tree_sitter_kotlin.language(),
    "swift": tree_sitter_swift.language(),
    "dart": tree_sitter_dart.language(),
}
_ARGUMENT = re.compile(r"(?<![\w.?])(\w+)\s*(?::|=(?![=>]))")


@dataclass(frozen=True, slots=True)
class Sdk:
    """How a recipe writes what it uses of Vapi's SDK: patterns with one group, the symbol."""

    page: str
    language: str
    patterns: tuple[str, ...]


SDKS = (
    Sdk("ios", "swift", (r"\b(Vapi(?:\.\w+)?)\b", r"\b(vapi\.\w+)", r"case (\.(?:call|error)\w*)")),
    Sdk(
        "android", "kotlin", (r"(?<!\.)\b(Vapi(?:\.\w+)*)", r"\b(vapi\??\.\w+)", r"\b(event\.\w+)")
    ),
    Sdk(
        "flutter",
        "dart",
        (
            r"\b(Vapi\w+(?:\.\w+)?)",
            r"\b(?:_?)((?:client|call)\??\.\w+)",
            r"\b(event\.\w+)",
            r"\b(defaultApiBaseUrl)\b",
        ),
    ),
)


def faults(language: str, code: str) -> list[str]:
    """Return the places that the grammar of a language does not know, by line."""
    tree = Parser(Language(_LANGUAGES[language])).parse(code.encode())
    return [
        f"line {node.start_point.row + 1}: {node.type}"
        for node in _nodes(tree.root_node)
        if node.is_error or node.is_missing
    ]


def symbols(sdk: Sdk, code: str) -> set[str]:
    """Return what a recipe uses of the SDK: `vapi.start`, with a label `vapi.start(assistantId:)`.

    Comments and texts do not count.
    """
    plain = _without_comments(sdk.language, code)
    found = set()
    for pattern in sdk.patterns:
        for match in re.finditer(pattern, plain):
            symbol = match[1].replace("?", "")
            found.add(symbol)
            found.update(f"{symbol}({label}:)" for label in _labels(plain, match.end(1)))
    return found


def _without_comments(language: str, code: str) -> str:
    source = code.encode()
    tree = Parser(Language(_LANGUAGES[language])).parse(source)
    kept = bytearray(source)
    for node in _nodes(tree.root_node):
        if "comment" in node.type or node.type in {"import_header", "import_declaration", "import"}:
            kept[node.start_byte : node.end_byte] = b" " * (node.end_byte - node.start_byte)
    return re.sub(r"""(["'])(?:\\.|(?!\1).)*\1""", '""', kept.decode())


def _labels(code: str, start: int) -> list[str]:
    """Return the labels of the arguments within the parentheses at `start`, if there are any."""
    if not code.startswith("(", start):
        return []
    depth, own = 0, ""
    for character in code[start:]:
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            break
        own += character if depth == 1 else " "
    return _ARGUMENT.findall(own)


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _nodes(child)

"""How the code lies: links know nothing of the service, and everything can be read at a glance."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[2]
LINKS = sorted((ROOT / "middlewares").rglob("*.py"))
FILES = LINKS + sorted((ROOT / "server").rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def imported(path: Path) -> Iterator[str]:
    """Give the name of every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""


def functions(path: Path) -> list[Function]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def lines_of(function: Function) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def own_lines_of(function: Function) -> int:
    """Count the lines of a function, without those of the functions that it makes."""
    return lines_of(function) - sum(
        lines_of(node) for node in function.body if isinstance(node, Function)
    )


def test_there_is_something_to_measure() -> None:
    assert {path.name for path in FILES} >= {"audit.py", "app.py"}


@pytest.mark.parametrize("path", LINKS, ids=lambda path: path.name)
def test_a_link_never_imports_the_service(path: Path) -> None:
    assert not [name for name in imported(path) if name.split(".")[0] in {"server", "sandbox"}]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_is_at_most_150_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 150


def test_half_of_all_functions_are_shorter_than_8_lines() -> None:
    assert median(lines_of(function) for path in FILES for function in functions(path)) < 8


def test_no_function_is_longer_than_40_lines() -> None:
    long = [f.name for path in FILES for f in functions(path) if own_lines_of(f) > 40]
    assert long == []

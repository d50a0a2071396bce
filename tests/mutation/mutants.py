"""Mutants of a source file: each differs from it by one small change that a test should notice.

The operators are mutmut's; two of our own remove a statement and negate a condition. mutmut's own
runner is not used, since it mutates no decorated function, and each middleware is one, and nothing
outside functions, such as the table of codes.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from zlib import crc32

import libcst as cst
from mutmut.mutation.mutators import mutation_operators, operator_string

from tests.mutation.runner import ROOT

# Names of types and of application keys show only in debuggers; mypy checks the types.
_UNOBSERVABLE_CALLS = frozenset({"cast", "TypeVar", "AppKey", "RequestKey", "ResponseKey"})
_REMOVABLE = (cst.Expr, cst.Raise, cst.Return, cst.Del, cst.AugAssign)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed version of a file: the lines before and after, and the complete source."""

    path: str
    scope: str
    """The qualified name of the class or function; empty at module level."""
    line: int
    before: str
    after: str
    source: str

    def is_in_sample(self, percent: int) -> bool:
        """Return whether a sample of this size has the mutant. Other mutants do not matter."""
        name = f"{self.path} {self.scope} {self.before} {self.after}"
        return crc32(name.encode()) % 100 < percent


def mutants_of(path: str) -> list[Mutant]:
    """Return all mutants of a file, in the order of its lines, each once."""
    source = (ROOT / path).read_text()
    module = cst.parse_module(source)
    changed = {
        module.deep_replace(node, mutated).code: scope
        for node, scope in _mutable_nodes(module)
        for mutated in _mutations(node)
    }
    mutants = [
        _mutant(path, scope, source, code) for code, scope in changed.items() if code != source
    ]
    return sorted(mutants, key=lambda mutant: mutant.line)


def _mutant(path: str, scope: str, source: str, changed: str) -> Mutant:
    old, new = source.splitlines(), changed.splitlines()
    start = _equal_lines(old, new)
    end = _equal_lines(old[:start:-1], new[:start:-1])
    before, after = (
        " ".join(map(str.strip, lines[start : len(lines) - end])) for lines in (old, new)
    )
    return Mutant(path, scope, start + 1, before, after, changed)


def _equal_lines(old: list[str], new: list[str]) -> int:
    """Return how many lines are equal at the beginning."""
    pairs = zip(old, new, strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _mutable_nodes(node: cst.CSTNode, scope: str = "") -> Iterator[tuple[cst.CSTNode, str]]:
    """Walk the tree without what tests cannot observe: types, docstrings, and decorators.

    Yields each node with the class or function that it belongs to.
    """
    if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom):
        return
    if isinstance(node, cst.Expr) and isinstance(node.value, cst.BaseString):
        return
    if isinstance(node, cst.Call) and _called_name(node) in _UNOBSERVABLE_CALLS:
        return
    if isinstance(node, cst.Assign) and _is_type_alias(node):
        return
    if isinstance(node, cst.ClassDef | cst.FunctionDef):
        scope = f"{scope}.{node.name.value}".removeprefix(".")
    yield node, scope
    for child in node.body.children if isinstance(node, cst.ClassDef) else node.children:
        yield from _mutable_nodes(child, scope)


def _is_type_alias(node: cst.Assign) -> bool:
    """Return whether `Name = …` defines a type."""
    target = node.targets[0].target
    pattern = r"_?[A-Z][A-Za-z]*[a-z][A-Za-z]*"
    return isinstance(target, cst.Name) and bool(re.fullmatch(pattern, target.value))


def _called_name(call: cst.Call) -> str:
    name = call.func.attr if isinstance(call.func, cst.Attribute) else call.func
    return name.value if isinstance(name, cst.Name) else ""


def _mutations(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            mutated: Iterable[cst.CSTNode] = operator(node)
            # The first change of a string suffices: the others change its case.
            yield from list(mutated)[:1] if operator is operator_string else mutated
    if isinstance(node, _REMOVABLE):
        yield cst.Pass()
    if isinstance(node, cst.If | cst.While | cst.CompIf):
        yield node.with_changes(test=_negation(node.test))
    if isinstance(node, cst.FormattedStringText):
        yield node.with_changes(value=f"{node.value}XX")


def _negation(test: cst.BaseExpression) -> cst.UnaryOperation:
    operand = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return cst.UnaryOperation(operator=cst.Not(), expression=operand)

"""What is mutated, and which tests have to notice."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.mutation.runner import ROOT

PACKAGES = ("middlewares", "server/auth", "server/api", "server/redis", "server/proof")
# The tests of the contract check the mutants that the tests of a module did not notice.
_EDGE = ("tests/test_story.py", "tests/test_patient_proof.py", "tests/test_contract.py")


def modules(chosen: Sequence[str]) -> Iterator[str]:
    """Return the paths of the chosen modules and of the modules in the chosen folders."""
    for name in chosen or PACKAGES:
        path = ROOT / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        yield from (str(file.relative_to(ROOT)) for file in files)


def package_of(module: str) -> str:
    """Return the package in which the module is reported."""
    parents = (name for name in PACKAGES if Path(name) in Path(module).parents)
    return next(parents, str(Path(module).parent))


def close_tests(module: str) -> tuple[str, ...]:
    """Return the tests of a module: the file of the same name, else those of its folder."""
    file = Path("tests", module).with_name(f"test_{Path(module).name}")
    return (str(file if (ROOT / file).is_file() else file.parent),)


def wide_tests(module: str) -> tuple[str, ...]:
    """Return the tests of the module's package and those of the contract."""
    return (f"tests/{package_of(module)}", *_EDGE)

"""The mutants that behave like the original, as listed with their reasons in equivalent.toml."""

import tomllib
from collections.abc import Iterable
from pathlib import Path

from tests.mutation.mutants import Mutant

_LIST = Path(__file__).with_name("equivalent.toml")


class EquivalentMutants:
    """The list, and which of its entries still match a mutant."""

    def __init__(self) -> None:
        entries = tomllib.loads(_LIST.read_text()).get("equivalent", [])
        self._listed = {
            (entry["module"], entry.get("scope", ""), entry["before"], after)
            for entry in entries
            for after in entry["after"]
        }
        self._matched: set[tuple[str, str, str, str]] = set()

    def contains(self, mutant: Mutant) -> bool:
        """Return whether the mutant is listed."""
        key = (mutant.path, mutant.scope, mutant.before, mutant.after)
        if key in self._listed:
            self._matched.add(key)
        return key in self._listed

    def unmatched(self, modules: Iterable[str]) -> list[str]:
        """Return the entries for these modules that match no mutant: the code has changed."""
        chosen = set(modules)
        missing = sorted(key for key in self._listed - self._matched if key[0] in chosen)
        return [
            f"{module} {scope}\n  - {before}\n  + {after}"
            for module, scope, before, after in missing
        ]

"""The results of a run: a table for people, a file for programs."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutants import Mutant
from tests.mutation.runner import Outcome
from tests.mutation.scope import package_of


@dataclass(frozen=True, slots=True)
class Result:
    """A mutant and its outcome."""

    mutant: Mutant
    outcome: Outcome


def table(results: Sequence[Result]) -> str:
    """Return the figures of each package and of all together; the score is in percent."""
    packages = dict.fromkeys(package_of(result.mutant.path) for result in results)
    rows = [figures(name, results) for name in packages]
    columns = ("package", "mutants", "killed", "timeouts", "survived", "equivalent", "score")
    lines = [f"{'':22}" + "".join(f"{column:>11}" for column in columns[1:])]
    for row in [*rows, figures("", results)]:
        cells = "".join(f"{row[column]:>11}" for column in columns[1:])
        lines.append(f"{row['package'] or 'together':22}" + cells)
    return "\n".join(lines)


def figures(package: str, results: Iterable[Result]) -> dict[str, str | int | float]:
    """Count the outcomes in a package; an empty name counts all. Equivalents have no score."""
    outcomes = [
        result.outcome
        for result in results
        if not package or package_of(result.mutant.path) == package
    ]
    survived = outcomes.count(Outcome.SURVIVED)
    equivalent = outcomes.count(Outcome.EQUIVALENT)
    tested = len(outcomes) - equivalent
    return {
        "package": package,
        "mutants": len(outcomes),
        "killed": outcomes.count(Outcome.KILLED),
        "timeouts": outcomes.count(Outcome.TIMEOUT),
        "survived": survived,
        "equivalent": equivalent,
        "score": round(100 * (1 - survived / tested), 1) if tested else 100.0,
    }


def survivors(results: Iterable[Result]) -> list[str]:
    """Return the mutants that no test noticed, a few lines each."""
    return [
        f"{mutant.path}:{mutant.line} {mutant.scope}\n  - {mutant.before}\n  + {mutant.after}"
        for mutant in (each.mutant for each in results if each.outcome is Outcome.SURVIVED)
    ]


def write(file: Path, results: Sequence[Result]) -> None:
    """Write the figures and every survivor as JSON."""
    packages = dict.fromkeys(package_of(result.mutant.path) for result in results)
    summary = {
        "packages": [figures(name, results) for name in packages],
        "together": figures("", results),
        "survived": survivors(results),
    }
    file.write_text(json.dumps(summary, indent=2) + "\n")

"""Mutation testing: `python -m tests.mutation [--close] [--sample PERCENT] [MODULE OR FOLDER …]`.

With `--close` only the tests of each module run, not those of its package and of the edge.
With `--sample` only that percentage of the mutants is tested: always the same ones, and a larger
sample contains the smaller ones.
"""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from time import monotonic

from tests.mutation.equivalent import EquivalentMutants
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.report import Result, survivors, table, write
from tests.mutation.runner import ROOT, Outcome, Workspace, preload
from tests.mutation.scope import close_tests, modules, wide_tests

OUTPUT = ROOT / "build" / "mutants"
_SLACK_SECONDS, _SLACK_FACTOR = 10, 3  # beyond what unchanged code takes, on a busy machine


class Session:
    """One run: the workspaces that are free, and how long unchanged code takes."""

    def __init__(self, workers: int) -> None:
        self.workspaces: SimpleQueue[Workspace] = SimpleQueue()
        for number in range(workers):
            self.workspaces.put(Workspace(OUTPUT / f"workspace{number}"))

    def baseline(self, tests: Sequence[str]) -> float:
        """Return the time limit for these tests. Raises RuntimeError if they fail as they are."""
        workspace = self.workspaces.get()
        try:
            start = monotonic()
            if workspace.run(tests, 600) is not Outcome.SURVIVED:
                raise RuntimeError(f"{tests} fail without a mutant:\n{workspace.output()}")
            return _SLACK_SECONDS + _SLACK_FACTOR * (monotonic() - start)
        finally:
            self.workspaces.put(workspace)

    def test(self, mutant: Mutant, stages: Iterable[tuple[Sequence[str], float]]) -> Result:
        """Run the tests of each stage until one notices the mutant."""
        workspace = self.workspaces.get()
        try:
            for tests, limit in stages:
                outcome = workspace.test(mutant.path, mutant.source, tests, limit)
                if outcome is not Outcome.SURVIVED:
                    break
            return Result(mutant, outcome)
        finally:
            self.workspaces.put(workspace)


def main(arguments: Sequence[str]) -> int:
    """Test all mutants of the chosen modules. Return 1 if any survived."""
    parser = ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("modules", nargs="*")
    parser.add_argument("--close", action="store_true")
    parser.add_argument("--sample", type=int, default=100)
    options = parser.parse_args(arguments)
    select = (close_tests,) if options.close else (close_tests, wide_tests)
    os.nice(5)
    preload()
    workers = os.cpu_count() or 1
    session, equivalent = Session(workers), EquivalentMutants()
    paths = list(modules(options.modules))
    results: list[Result] = []
    with ThreadPoolExecutor(workers) as pool:
        runs = {tests(path) for path in paths for tests in select}
        limits = dict(zip(runs, pool.map(session.baseline, runs), strict=True))
        for path in paths:
            stages = [(tests(path), limits[tests(path)]) for tests in select]
            mutants = mutants_of(path)
            listed = list(filter(equivalent.contains, mutants))
            sample = [each for each in mutants if each.is_in_sample(options.sample)]
            tested = (each for each in sample if each not in listed)
            of_module = list(pool.map(partial(session.test, stages=stages), tested))
            of_module += [Result(each, Outcome.EQUIVALENT) for each in sample if each in listed]
            print("\n".join([f"{path}: {len(of_module)}", *survivors(of_module)]), flush=True)
            results += of_module
            write(OUTPUT / "summary.json", results)
    print(table(results))
    unmatched = equivalent.unmatched(paths)
    print("".join(f"equivalent.toml: no such mutant: {entry}\n" for entry in unmatched), end="")
    return int(bool(unmatched) or any(result.outcome is Outcome.SURVIVED for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

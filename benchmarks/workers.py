"""`make bench-workers`: the throughput of two gunicorn workers, compared with one.

wrk needs a core of its own. On two cores, two workers and wrk share them. With SHARE=0.3 (as root)
each worker gets at most 30 % of a core, which leaves enough for wrk: the two workers then scale as
they would with a core each. The processor time of a request, in the workers and in wrk, is printed
as well: while that of the workers is the same for one and for two, a further worker on a core of
its own adds its full throughput.
"""

import asyncio
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.keys import MATERIALS, write_tokens
from loadtests.target import serving
from rig import wrk
from rig.process import Running, children, cpu_seconds

CONNECTIONS = 64
SECONDS = 10
CPU_GROUPS = Path("/sys/fs/cgroup/cpu")


@dataclass(frozen=True, slots=True)
class Figures:
    """Requests in a second, and the microseconds that one takes the workers and the client."""

    rate: float
    workers: float
    client: float


def load(target: Running, tokens: Path, seconds: int) -> Figures:
    """Run wrk. Raises RuntimeError for a response other than 200."""
    before, client = _workers_seconds(target), _wrk_seconds()
    run = wrk.load(target, tokens, connections=CONNECTIONS, seconds=seconds)
    if run.refused + run.failed:
        raise RuntimeError(str(run))
    used = _workers_seconds(target) - before, _wrk_seconds() - client
    return Figures(run.per_second, *(each / run.requests * 1e6 for each in used))


def _workers_seconds(target: Running) -> float:
    return sum(map(cpu_seconds, children(target.pid)))


def _wrk_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def cpu_limit(pids: list[int], share: float) -> Iterator[None]:
    """Limit each process to a share of a core, with control groups (version 1, as root)."""
    groups = [CPU_GROUPS / f"vapi-sessions-bench-{pid}" for pid in pids]
    for group, pid in zip(groups, pids, strict=True):
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text("10000", "ascii")
        (group / "cpu.cfs_quota_us").write_text(f"{share * 10000:.0f}", "ascii")
        (group / "cgroup.procs").write_text(str(pid), "ascii")
    try:
        yield
    finally:
        for group, pid in zip(groups, pids, strict=True):
            (CPU_GROUPS / "cgroup.procs").write_text(str(pid), "ascii")
            group.rmdir()


async def measure(workers: int, tokens: Path, share: float) -> Figures:
    """Measure a number of workers."""
    async with serving(workers=workers, RATE_LIMIT="off") as target:
        await asyncio.to_thread(load, target, tokens, 2)  # warm-up
        with cpu_limit(children(target.pid), share) if share else nullcontext():
            return await asyncio.to_thread(load, target, tokens, SECONDS)


async def main() -> None:
    """Measure one worker and two. Print the figures of both."""
    share = float(os.environ.get("SHARE") or "0")
    with TemporaryDirectory() as folder:
        tokens = write_tokens(MATERIALS["HS256"](), Path(folder))["repeated"]
        one, two = [await measure(workers, tokens, share) for workers in (1, 2)]
    cores = f"{share:g} of a core each" if share else f"{os.cpu_count()} cores, shared with wrk"
    print(f"| workers, {cores} | throughput | CPU of a request, µs | of wrk |")
    print("| --- | ---: | ---: | ---: |")
    for name, each in (("one", one), ("two", two)):
        print(f"| {name} | {each.rate:,.0f}/s | {each.workers:.0f} | {each.client:.0f} |")
    by_cpu = 2 * one.workers / two.workers
    print(f"\nTwo serve {two.rate / one.rate:.2f} times as much, {by_cpu:.2f} by processor time.")


if __name__ == "__main__":
    asyncio.run(main())

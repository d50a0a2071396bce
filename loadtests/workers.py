"""`make bench-workers`: the throughput of two gunicorn workers, compared with one.

wrk (Debian: apt install wrk) loads each for SECONDS (10) with the tokens of 1,000 patients. On two
cores that comparison is limited by wrk, which needs one of them. With SHARE=0.3 each worker gets at
most 30 % of a core, which leaves enough for wrk: the two workers then scale as they would with a
core each. Requests for each second of processor time are printed as well: while that figure is the
same for one worker and for two, a further worker on a core of its own adds its full throughput. The
figures are printed and not asserted.
"""

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtests import tokens
from loadtests.target import Target, run, serving
from rig.service import PATH

CONNECTIONS = 64
CPU_GROUPS = Path("/sys/fs/cgroup/cpu")
SCRIPT = """
local tokens, index = {}, 0
for line in io.lines("%s") do tokens[#tokens + 1] = line end
request = function()
  index = index %% #tokens + 1
  return wrk.format("POST", "%s", {["Authorization"] = "Bearer " .. tokens[index]})
end
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """One run: its responses, its seconds, and the processor time of each worker."""

    requests: int
    seconds: float
    cpu: list[float]

    @property
    def rate(self) -> float:
        """The requests in a second."""
        return self.requests / self.seconds

    @property
    def efficiency(self) -> float:
        """The requests for each second of processor time."""
        return self.requests / sum(self.cpu)


async def load(target: Target, seconds: int) -> Figures:
    """Run wrk. Raises RuntimeError for a response other than 200."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        lines = "\n".join(tokens.good(target.secret)[1] for _ in range(1000))
        (folder / "tokens").write_text(lines, "ascii")
        (folder / "wrk.lua").write_text(SCRIPT % (folder / "tokens", PATH), "ascii")
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(folder / "wrk.lua")]
        before = target.cpu_seconds()
        status, out = await run(*command, target.url)
        used = [
            after - earlier for after, earlier in zip(target.cpu_seconds(), before, strict=True)
        ]
    found = re.search(r"(\d+) requests in ([\d.]+)s", out)
    if status or found is None or "Non-2xx" in out:
        raise RuntimeError(out)
    return Figures(int(found[1]), float(found[2]), used)


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


async def measure(workers: int, seconds: int, share: float) -> Figures:
    """Measure a number of workers."""
    async with serving(workers=workers, RATE_LIMIT="off") as target:
        await load(target, 2)  # warm-up
        with cpu_limit(target.pids(), share) if share else nullcontext():
            return await load(target, seconds)


async def main() -> int:
    """Measure one worker and two. Print the figures of both."""
    seconds = int(os.environ.get("SECONDS") or "10")
    share = float(os.environ.get("SHARE") or "0")
    cores = (
        f"{share:g} of a core for each"
        if share
        else f"{os.cpu_count()} cores, including the one of wrk"
    )
    one, two = [await measure(workers, seconds, share) for workers in (1, 2)]
    for name, figures in (("one worker", one), ("two workers", two)):
        used = " + ".join(f"{used:.1f}" for used in figures.cpu)
        print(f"{name:<12} {figures.rate:8,.0f} requests/s, ", end="")
        print(f"{figures.efficiency:8,.0f} for each second of processor time ({used} s)")
    print(f"{two.rate / one.rate:.2f} times as many, with {cores}")
    print(f"{2 * two.efficiency / one.efficiency:.2f} times as many by processor time")
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))

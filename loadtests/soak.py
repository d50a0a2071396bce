"""`make soak`: memory stays bounded, however many patients and tokens the service has seen.

For SECONDS (600; 60 in continuous integration) every request has a new token and a new patient:
valid tokens and every kind of invalid ones, over connections that open and close. The memory of the
process is sampled. It may grow by 20 MB after the first half, when the bounded store of rate limits
has reached its size. SVG (build/soak.svg) names the file of the plot. Exit status 1: memory grew by
more, or a response was unexpected.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from time import monotonic

from loadtests import tokens
from loadtests.plot import plot
from loadtests.target import serving
from rig.process import ROOT, Running, rss_megabytes
from rig.service import SECRET
from rig.wire import connected, post, read_answer

CLIENTS = 16
REQUESTS_A_CONNECTION = 500
ALLOWED_MEGABYTES = 20.0
EXPECTED: Mapping[tokens.Make, int] = {
    tokens.good: 200,
    tokens.with_key_id: 200,
    tokens.expired: 401,
    tokens.forged: 401,
    tokens.other_role: 403,
    tokens.malformed: 401,
}


@dataclass
class Soak:
    """A run: the count of each response, and the memory in megabytes over seconds."""

    target: Running
    seconds: float
    responses: Counter[tuple[str, int]] = field(default_factory=Counter)
    samples: list[tuple[float, float]] = field(default_factory=list)

    async def run(self) -> None:
        """Load and sample until the time is over."""
        began = monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._load(began + self.seconds))
            while (passed := monotonic() - began) < self.seconds:
                self.samples.append((passed, rss_megabytes(self.target.pid)))
                await asyncio.sleep(self.seconds / 240)
        self.samples.append((monotonic() - began, rss_megabytes(self.target.pid)))

    async def _load(self, until: float) -> None:
        makes = cycle([tokens.good, *EXPECTED])
        while monotonic() < until:
            async with connected(self.target) as (reader, writer):
                for _, make in zip(range(REQUESTS_A_CONNECTION), makes, strict=False):
                    _, token = make(SECRET)
                    writer.write(post(b"", token=token))
                    answer = await read_answer(reader)
                    self.responses[make.__name__, answer.status] += 1
                    if monotonic() > until:
                        break

    def growth(self) -> float:
        """Return the growth over the maximum of the first half, in megabytes."""
        half = self.samples[-1][0] / 2
        before = max(memory for second, memory in self.samples if second <= half)
        return max(memory for second, memory in self.samples if second > half) - before

    def unexpected(self) -> dict[tuple[str, int], int]:
        """Return the counts of responses that no request should get."""
        expected = {(make.__name__, status) for make, status in EXPECTED.items()}
        return {key: count for key, count in self.responses.items() if key not in expected}


async def load(seconds: float) -> Soak:
    """Run the test; return what it measured."""
    async with serving(METRICS_ENABLED="true") as target:
        soak = Soak(target, seconds)
        await soak.run()
    return soak


def main() -> int:
    """Run the test. Print and plot the results. Return the exit status."""
    seconds = float(os.environ.get("SECONDS") or "600")
    svg = Path(os.environ.get("SVG") or ROOT / "build" / "soak.svg")
    soak = asyncio.run(load(seconds))
    growth, count = soak.growth(), soak.responses.total()
    for (name, status), number in sorted(soak.responses.items()):
        print(f"{number:>9,}  {name:<12} {status}")
    good = growth <= ALLOWED_MEGABYTES and not soak.unexpected()
    title = f"{count:,} requests, each with a new token and patient"
    marks = [(seconds / 2, f"growth from here: {growth:+.1f} MB")]
    svg.parent.mkdir(parents=True, exist_ok=True)
    svg.write_text(plot(soak.samples, title=title, marks=marks), "utf-8")
    print(
        f"{title}: {growth:+.1f} MB after the first half, of {ALLOWED_MEGABYTES:g} allowed, ",
        end="",
    )
    print("ok" if good else f"FAILED {soak.unexpected() or ''}")
    print(f"The plot: {svg}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())

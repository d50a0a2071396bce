"""`make soak`: no memory is kept of patients and tokens that came by, however many there are.

For SECONDS (600; 60 is the short form) no two requests carry the same token or patient: good
tokens, bad ones of every kind, and connections that come and go. The memory of the serving process
is sampled, and may grow by 20 MB after the first half: by then the store of rate limits, which is
bounded, has taken what it takes. SVG (build/soak.svg) says where the plot goes. Exit status 1: it
grew by more, or an answer was not the one expected.
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
from loadtests.target import ROOT, Target, serving
from loadtests.wire import Client, start_request

CLIENTS = 16
REQUESTS_A_CONNECTION = 500
ALLOWED_MEGABYTES = 20.0
EXPECTED: Mapping[tokens.Make, int] = {
    tokens.good: 200,
    tokens.with_key_id: 200,
    tokens.expired: 401,
    tokens.forged: 401,
    tokens.of_a_nurse: 403,
    tokens.junk: 401,
}


@dataclass
class Soak:
    """A run: what came back, and what the service held, in megabytes, at which second."""

    target: Target
    seconds: float
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    samples: list[tuple[float, float]] = field(default_factory=list)

    async def run(self) -> None:
        """Press and sample until time is up."""
        began = monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._press(began + self.seconds))
            while (passed := monotonic() - began) < self.seconds:
                self.samples.append((passed, self.target.rss_megabytes()))
                await asyncio.sleep(self.seconds / 240)
        self.samples.append((monotonic() - began, self.target.rss_megabytes()))

    async def _press(self, until: float) -> None:
        makes = cycle([tokens.good, *EXPECTED])
        while monotonic() < until:
            client = await Client.connect(self.target.port)
            for _, make in zip(range(REQUESTS_A_CONNECTION), makes, strict=False):
                _, token = make(self.target.secret)
                status = await client.ask(start_request(token))
                self.answers[make.__name__, status] += 1
                if monotonic() > until:
                    break
            client.close()

    def growth(self) -> float:
        """Give the megabytes that came on top of the most that the first half held."""
        half = self.samples[-1][0] / 2
        before = max(held for second, held in self.samples if second <= half)
        return max(held for second, held in self.samples if second > half) - before

    def unexpected(self) -> dict[tuple[str, int], int]:
        """Give the answers that nobody should have got."""
        good = {(make.__name__, status) for make, status in EXPECTED.items()}
        return {answer: count for answer, count in self.answers.items() if answer not in good}


def main() -> int:
    """Soak; print what came of it; draw it; give the exit status."""
    seconds = float(os.environ.get("SECONDS") or "600")
    svg = Path(os.environ.get("SVG") or ROOT / "build" / "soak.svg")
    with serving(METRICS_ENABLED="true") as target:
        soak = Soak(target, seconds)
        asyncio.run(soak.run())
    growth, count = soak.growth(), soak.answers.total()
    for (name, status), number in sorted(soak.answers.items()):
        print(f"{number:>9,}  {name:<12} {status}")
    good = growth <= ALLOWED_MEGABYTES and not soak.unexpected()
    title = f"{count:,} requests, no two tokens or patients alike"
    marks = [(seconds / 2, f"from here on: {growth:+.1f} MB")]
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

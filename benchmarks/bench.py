"""`make bench`: the whole service against a bare aiohttp handler and against FastAPI.

Each case runs all its servers in turn, round after round, in one run, and tells medians and ratios:
absolute figures are those of one machine on one day.
"""

import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import servers
from benchmarks.keys import MATERIALS, write_tokens
from benchmarks.plot import bars

PATH = "/api/v1/sessions/vapi/start"
OUT = Path("build/bench")
LOAD_CORE = "1"
CONNECTIONS = 32
SECONDS = 2
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Run:
    """What wrk saw of a server in one round, and what it cost: times are milliseconds."""

    per_second: float
    p99: float
    cpu_microseconds: float
    refused: int
    failed: int


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of one case."""

    case: str
    bare: Run
    service: Run
    fastapi: Run | None
    memory_mb: float

    @property
    def ratio(self) -> float:
        """The service's throughput, where the bare handler's is 1."""
        return self.service.per_second / self.bare.per_second


def wrk(server: servers.Server, tokens: Path, seconds: int) -> Run:
    """Load a server for some seconds."""
    before = server.cpu_seconds
    printed = subprocess.run(
        ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s",
         "-s", "benchmarks/requests.lua", f"http://127.0.0.1:{server.port}{PATH}", "--", tokens],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = re.search(r"RESULT (\S+) (\S+) (\S+) (\d+) (\d+)", printed)
    if found is None:
        raise SystemExit(f"wrk printed no result:\n{printed}")
    per_second, _, p99, refused, failed = map(float, found.groups())
    cpu = (server.cpu_seconds - before) / (per_second * seconds) * 1e6
    return Run(per_second, p99, cpu, int(refused), int(failed))


def wrk_get(server: servers.Server, path: str, seconds: int) -> float:
    """Load a server with plain GETs; give the requests that it answered in a second."""
    url = f"http://127.0.0.1:{server.port}{path}"
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Requests/sec:\s+(\S+)", printed)
    if found is None:
        raise SystemExit(f"wrk printed no result:\n{printed}")
    return float(found[1])


def middle(runs: list[Run]) -> Run:
    """Give the median of each figure."""
    return Run(
        median(run.per_second for run in runs),
        median(run.p99 for run in runs),
        median(run.cpu_microseconds for run in runs),
        sum(run.refused for run in runs),
        sum(run.failed for run in runs),
    )


def rounds(contestants: Mapping[str, servers.Server], tokens: Path, count: int) -> dict[str, Run]:
    """Let each contestant run in each round, and give the medians."""
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    for server in contestants.values():
        wrk(server, tokens, 1)  # caches fill, code warms up
    for _ in range(count):
        for name, server in contestants.items():
            runs[name].append(wrk(server, tokens, SECONDS))
    return {name: middle(all_) for name, all_ in runs.items()}


def cases(algorithm: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Name the kinds of tokens to measure for an algorithm, and the settings to do it with."""
    yield "distinct", {}
    yield "repeated", {}
    if algorithm == "HS256":
        yield "forged", {}
        yield "distinct", {"VAPI_CREDENTIAL": "session_token"}
        yield "repeated", {"VAPI_CREDENTIAL": "session_token"}


def measure(algorithm: str, folder: Path) -> Iterator[Row]:
    """Measure every case of one algorithm."""
    material = MATERIALS[algorithm]()
    files = write_tokens(material, folder)
    for kind, variables in cases(algorithm):
        with ExitStack() as stack:
            service = stack.enter_context(servers.service(material, **variables))
            contestants = {"bare": stack.enter_context(servers.bare()), "service": service}
            if not variables:
                contestants["fastapi"] = stack.enter_context(servers.fastapi(material))
            runs = rounds(contestants, files[kind], ROUNDS)
            name = f"{algorithm} {kind}{', session token' if variables else ''}"
            yield Row(name, runs["bare"], runs["service"], runs.get("fastapi"), service.memory_mb)


def table(rows: list[Row]) -> str:
    """Write the rows as a Markdown table."""
    lines = [
        "| tokens | service | bare | ratio | times FastAPI | p99, times bare | CPU | memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        peer = row.service.per_second / row.fastapi.per_second if row.fastapi else None
        lines.append(
            f"| {row.case} | {row.service.per_second:,.0f}/s | {row.bare.per_second:,.0f}/s "
            f"| {row.ratio:.2f} | {f'{peer:.1f}' if peer else ''} "
            f"| {row.service.p99 / row.bare.p99:.1f} | {row.service.cpu_microseconds:.0f} µs "
            f"| {row.memory_mb:.0f} MiB |"
        )
    return "\n".join(lines)


def machine() -> str:
    """Name what it was measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cpu = model[1] if model else platform.processor()
    return f"{cpu}, one core each for server and load, Python {platform.python_version()}"


def main() -> None:
    """Measure the algorithms named on the command line, or all; leave a table and a plot."""
    OUT.mkdir(parents=True, exist_ok=True)
    rows = []
    with TemporaryDirectory() as folder:
        for algorithm in sys.argv[1:] or MATERIALS:
            for row in measure(algorithm, Path(folder)):
                print(f"{row.case}: {row.ratio:.2f} of the bare handler", file=sys.stderr)
                rows.append(row)
    text = f"{table(rows)}\n\nMedians of {ROUNDS} alternating rounds of {SECONDS} seconds, "
    text += f"{CONNECTIONS} connections; {machine()}.\n"
    (OUT / "bench.md").write_text(text)
    (OUT / "bench.svg").write_text(bars({row.case: row.ratio for row in rows}))
    print(text)


if __name__ == "__main__":
    main()

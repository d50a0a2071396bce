"""`make bench`: the whole service beside a bare aiohttp handler, Fastify and FastAPI.

In each round of a case, wrk loads one server after the other. Ratios are taken within a round, so
that changes in the speed of the machine affect both sides. A command-line argument selects the
cases whose names start with it, for example `HS256` or `"RS256 distinct"`. The
environment variable BEFORE names a folder with another version of the service and its `.venv`,
which is measured as well.
"""

import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import servers
from benchmarks.keys import MATERIALS, Material, make_token, write_tokens
from benchmarks.plot import bars
from rig.service import PATH
from rig.wrk import Run

OUT = Path("build/bench")
SECONDS = 2
ROUNDS = 5
CONNECTIONS = 32
MANY_CONNECTIONS = 1000
MANY_SECONDS = 6
"""For many connections: opening them takes a second or more of each round."""
SESSION_TOKEN = {"VAPI_CREDENTIAL": "session_token"}


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table: the tokens that are sent, and the settings of the service."""

    algorithm: str
    tokens: str
    connections: int = CONNECTIONS
    variables: Mapping[str, str] = field(default_factory=dict)
    redis: float | None = None  # the milliseconds of a round trip to it

    @property
    def name(self) -> str:
        """The name in the table."""
        suffixes = [
            ", session token" if self.variables else "",
            "" if self.redis is None else ", Redis",
            f" {self.redis:g} ms away" if self.redis else "",
            f", {self.connections:,} connections" if self.connections != CONNECTIONS else "",
        ]
        return f"{self.algorithm} {self.tokens}{''.join(suffixes)}"


CASES = [
    Case("HS256", "distinct"),
    Case("HS256", "repeated"),
    Case("HS256", "forged"),
    Case("HS256", "distinct", MANY_CONNECTIONS),
    Case("HS256", "repeated", MANY_CONNECTIONS),
    Case("HS256", "distinct", variables=SESSION_TOKEN),
    Case("HS256", "repeated", variables=SESSION_TOKEN),
    Case("HS256", "distinct", redis=0),
    Case("HS256", "repeated", redis=0),
    Case("HS256", "distinct", redis=1),
    Case("HS256", "repeated", redis=1),
    Case("RS256", "distinct"),
    Case("RS256", "repeated"),
    Case("ES256", "distinct"),
    Case("ES256", "repeated"),
]


@dataclass(frozen=True, slots=True)
class Round:
    """One run of wrk, and the server's processor time for one request, in microseconds."""

    run: Run
    cpu: float


@dataclass(frozen=True, slots=True)
class Result:
    """All rounds of one case, by server, and the memory of the service after the last."""

    case: Case
    rounds: Mapping[str, list[Round]]
    memory_mb: float

    def ratio(self, peer: str) -> float | None:
        """Return the median ratio of the service's throughput to a peer's, if the peer ran."""
        if peer not in self.rounds:
            return None
        pairs = zip(self.rounds["service"], self.rounds[peer], strict=True)
        return median(ours.run.per_second / theirs.run.per_second for ours, theirs in pairs)

    def middle(self, server: str, figure: Callable[[Round], float]) -> float:
        """Return the median of one figure of a server."""
        return median(map(figure, self.rounds[server]))


def run_rounds(contestants: Mapping[str, servers.Server], case: Case, tokens: Path) -> Result:
    """Load each contestant once in every round."""
    seconds = SECONDS if case.connections == CONNECTIONS else MANY_SECONDS

    def load(name: str, server: servers.Server) -> Round:
        before = server.cpu_seconds
        run = server.load(tokens, connections=case.connections, seconds=seconds)
        check_run(run, name, case)
        return Round(run, (server.cpu_seconds - before) / run.requests * 1e6)

    rounds: dict[str, list[Round]] = {name: [] for name in contestants}
    for number in range(ROUNDS + 1):
        for name, server in contestants.items():
            measured = load(name, server)
            if number:  # the first is a warm-up
                rounds[name].append(measured)
    return Result(case, rounds, contestants["service"].memory_mb)


def check_run(run: Run, name: str, case: Case) -> None:
    """Stop the benchmark when a server failed, or accepted or refused what it should not have."""
    refuses = case.tokens == "forged" and name != "bare"
    if run.failed or bool(run.refused) != refuses:
        raise SystemExit(f"{case.name}: unexpected responses of {name}: {run}")


def response_shape(server: servers.Server, token: str) -> tuple[int, object, set[str]]:
    """Start a session. Return the status, the body without its values, and the header names."""
    connection = HTTPConnection("127.0.0.1", server.port)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request("POST", PATH, "{}", headers)
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    names = {name.lower() for name, _ in response.getheaders()}
    return response.status, without_values(body), names - {"connection", "keep-alive", "server"}


def without_values(value: object) -> object:
    """Replace the values of a JSON document by the names of their types."""
    if isinstance(value, dict):
        return {name: without_values(item) for name, item in value.items()}
    return type(value).__name__


def check_same_work(contestants: Mapping[str, servers.Server], token: str) -> None:
    """Stop the benchmark when a peer answers with another body or other headers."""
    expected = response_shape(contestants["service"], token)
    for name in contestants.keys() & {"fastapi", "fastify"}:
        found = response_shape(contestants[name], token)
        if found != expected:
            raise SystemExit(f"{name} answers {found}, the service {expected}")


@cache
def material_of(algorithm: str) -> Material:
    """Make the keys of an algorithm once."""
    return MATERIALS[algorithm]()


def measure(case: Case, scratch: Path) -> Result:
    """Start the contestants of a case, and run all rounds."""
    material = material_of(case.algorithm)
    tokens = write_tokens(material, scratch)[case.tokens]
    with ExitStack() as stack:
        variables = dict(case.variables)
        if case.redis is not None:
            variables["REDIS_URL"] = stack.enter_context(servers.redis(case.redis / 1000))
        contestants = {
            "bare": stack.enter_context(servers.bare()),
            "service": stack.enter_context(servers.service(material, **variables)),
        }
        if not case.variables:
            fastify = servers.fastify(material, variables.get("REDIS_URL", ""))
            contestants["fastify"] = stack.enter_context(fastify)
            if case.redis is None:
                contestants["fastapi"] = stack.enter_context(servers.fastapi(material))
            check_same_work(contestants, make_token(material, 0))
        if folder := os.environ.get("BEFORE"):
            before = servers.service(material, Path(folder).resolve(), **variables)
            contestants["before"] = stack.enter_context(before)
        return run_rounds(contestants, case, tokens)


def columns(result: Result) -> Iterator[str]:
    """Write the cells of one row."""

    def ratio(peer: str) -> str:
        value = result.ratio(peer)
        return "" if value is None else f"{value:.2f}"

    def figures(figure: Callable[[Round], float], digits: int) -> Iterator[str]:
        for server in ("service", "before", "bare", "fastify"):
            ran = server in result.rounds
            yield f"{result.middle(server, figure):.{digits}f}" if ran else ""

    yield result.case.name
    yield f"{result.middle('service', lambda each: each.run.per_second):,.0f}/s"
    yield from map(ratio, ("before", "bare", "fastify", "fastapi"))
    yield from figures(lambda each: each.run.p99, 1)
    yield from figures(lambda each: each.cpu, 0)
    yield f"{result.memory_mb:.0f} MiB"


def table(results: list[Result]) -> str:
    """Write a Markdown table."""
    heads = [
        "tokens", "service", "/ before", "/ bare", "/ Fastify", "/ FastAPI",
        "p99, ms", "before", "bare", "Fastify", "CPU, µs", "before", "bare", "Fastify", "memory",
    ]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    lines += [f"| {' | '.join(columns(result))} |" for result in results]
    return "\n".join(lines)


def interpreter() -> str:
    """Name the Python that runs the servers, and whether it was built with profile guidance."""
    built = "without profile guidance"
    if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        built = "built with profile guidance"
    elif sys.base_prefix == "/usr" and Path("/etc/debian_version").exists():
        built = "built with profile guidance, as all of Debian"  # by its rules, without the option
    return f"Python {platform.python_version()} of {sys.base_prefix} ({built})"


def machine() -> str:
    """Name the machine and the interpreters."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cpu = model[1] if model else platform.processor()
    node = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    cores = "one core each for server and load"
    return f"{cpu}, {cores}, {interpreter()}, Node.js {node.strip()}"


def main() -> None:
    """Measure the selected cases. Write a table and a plot."""
    OUT.mkdir(parents=True, exist_ok=True)
    servers.allow_many_connections()
    prefixes = tuple(sys.argv[1:]) or ("",)
    results = []
    with TemporaryDirectory() as folder:
        for case in CASES:
            if case.name.startswith(prefixes):
                results.append(measure(case, Path(folder)))
                print(" | ".join(columns(results[-1])), file=sys.stderr)
    text = f"{table(results)}\n\nMedians of {ROUNDS} alternating rounds of {SECONDS} seconds, "
    text += f"{CONNECTIONS} connections unless stated otherwise (then {MANY_SECONDS} seconds); "
    text += f"{machine()}.\n"
    (OUT / "bench.md").write_text(text)
    (OUT / "bench.svg").write_text(bars(results_by_name(results)))
    print(text)


def results_by_name(results: list[Result]) -> dict[str, tuple[float, float | None]]:
    """Return for each case the throughput of the service and of Fastify, relative to bare."""
    ratios = {}
    for result in results:
        ours, fastify = result.ratio("bare"), result.ratio("fastify")
        assert ours is not None
        ratios[result.case.name] = ours, ours / fastify if fastify else None
    return ratios


if __name__ == "__main__":
    main()

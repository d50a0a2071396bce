"""`make bench`: the whole service beside a bare aiohttp handler, Fastify and FastAPI.

In each round of a case, wrk loads one server after the other. Ratios are taken within a round, so
that changes in the speed of the machine affect both sides. A command-line argument selects the
cases whose names start with it, for example `HS256` or `"RS256 distinct"`.
"""

import json
import platform
import re
import resource
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

from benchmarks import servers, wrk
from benchmarks.keys import MATERIALS, Material, make_token, write_tokens
from benchmarks.plot import bars
from rig.service import PATH

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
    redis: bool = False

    @property
    def name(self) -> str:
        """The name in the table."""
        suffixes = [
            ", session token" if self.variables else "",
            ", Redis" if self.redis else "",
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
    Case("HS256", "distinct", redis=True),
    Case("HS256", "repeated", redis=True),
    Case("RS256", "distinct"),
    Case("RS256", "repeated"),
    Case("ES256", "distinct"),
    Case("ES256", "repeated"),
]


@dataclass(frozen=True, slots=True)
class Result:
    """All rounds of one case, by server, and the memory of the service after the last."""

    case: Case
    rounds: Mapping[str, list[wrk.Run]]
    memory_mb: float

    def ratio(self, peer: str) -> float | None:
        """Return the median ratio of the service's throughput to a peer's, if the peer ran."""
        if peer not in self.rounds:
            return None
        pairs = zip(self.rounds["service"], self.rounds[peer], strict=True)
        return median(ours.per_second / theirs.per_second for ours, theirs in pairs)

    def middle(self, server: str, figure: Callable[[wrk.Run], float]) -> float:
        """Return the median of one figure of a server."""
        return median(figure(run) for run in self.rounds[server])


def run_rounds(contestants: Mapping[str, servers.Server], case: Case, tokens: Path) -> Result:
    """Load each contestant once in every round."""

    def load(server: servers.Server, seconds: int) -> wrk.Run:
        return wrk.post(server, tokens, connections=case.connections, seconds=seconds)

    seconds = SECONDS if case.connections == CONNECTIONS else MANY_SECONDS
    for server in contestants.values():
        load(server, seconds)  # warm-up
    rounds: dict[str, list[wrk.Run]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, server in contestants.items():
            run = load(server, seconds)
            check_run(run, name, case)
            rounds[name].append(run)
    return Result(case, rounds, contestants["service"].memory_mb)


def check_run(run: wrk.Run, name: str, case: Case) -> None:
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


def measure(case: Case, folder: Path) -> Result:
    """Start the contestants of a case, and run all rounds."""
    material = material_of(case.algorithm)
    tokens = write_tokens(material, folder)[case.tokens]
    with ExitStack() as stack:
        variables = dict(case.variables)
        if case.redis:
            variables["REDIS_URL"] = stack.enter_context(servers.redis())
        contestants = {
            "bare": stack.enter_context(servers.bare()),
            "service": stack.enter_context(servers.service(material, **variables)),
        }
        if not case.variables:
            fastify = servers.fastify(material, variables.get("REDIS_URL", ""))
            contestants["fastify"] = stack.enter_context(fastify)
            if not case.redis:
                contestants["fastapi"] = stack.enter_context(servers.fastapi(material))
            check_same_work(contestants, make_token(material, 0))
        return run_rounds(contestants, case, tokens)


def columns(result: Result) -> Iterator[str]:
    """Write the cells of one row."""

    def ratio(peer: str) -> str:
        value = result.ratio(peer)
        return "" if value is None else f"{value:.2f}"

    def figures(figure: Callable[[wrk.Run], float], digits: int) -> Iterator[str]:
        for server in ("service", "bare", "fastify"):
            ran = server in result.rounds
            yield f"{result.middle(server, figure):.{digits}f}" if ran else ""

    yield result.case.name
    yield f"{result.middle('service', lambda run: run.per_second):,.0f}/s"
    yield from map(ratio, ("bare", "fastify", "fastapi"))
    yield from figures(lambda run: run.p99, 1)
    yield from figures(lambda run: run.cpu, 0)
    yield f"{result.memory_mb:.0f} MiB"


def table(results: list[Result]) -> str:
    """Write a Markdown table."""
    heads = [
        "tokens", "service", "/ bare", "/ Fastify", "/ FastAPI",
        "p99, ms", "bare", "Fastify", "CPU, µs", "bare", "Fastify", "memory",
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


def allow_many_connections() -> None:
    """Raise the limit of open files, for wrk and for the servers, which inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """Measure the selected cases. Write a table and a plot."""
    OUT.mkdir(parents=True, exist_ok=True)
    allow_many_connections()
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

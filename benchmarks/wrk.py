"""The load generator: wrk, pinned to a core of its own."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import LOAD_CORE, Server
from rig.service import PATH

_SCRIPT = Path(__file__).with_name("requests.lua")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of wrk against one server.

    `p99` is in milliseconds. `cpu` is the server's processor time for one request, in microseconds.
    `refused` counts responses other than 2xx and 3xx, `failed` connection errors and timeouts.
    """

    per_second: float
    p99: float
    cpu: float
    refused: int
    failed: int


def post(
    server: Server, tokens: Path, *, connections: int, seconds: int, pipelined: int = 1
) -> Run:
    """Start sessions with the tokens of a file (one a line), one after the other."""
    before = server.cpu_seconds
    url = f"http://127.0.0.1:{server.port}{PATH}"
    arguments = ("-s", str(_SCRIPT), url, "--", str(tokens), str(pipelined))
    printed = _wrk(connections, seconds, *arguments)
    result = _find(r"RESULT (.+)", printed)
    per_second, p99, requests, refused, failed = map(float, result.split())
    if not requests:
        raise SystemExit(f"the server did not respond within {seconds} seconds:\n{printed}")
    cpu = (server.cpu_seconds - before) / requests * 1e6
    return Run(per_second, p99, cpu, int(refused), int(failed))


def get(server: Server, path: str, *, connections: int, seconds: int) -> float:
    """Send plain GET requests. Return the number of responses in a second."""
    printed = _wrk(connections, seconds, f"http://127.0.0.1:{server.port}{path}")
    return float(_find(r"Requests/sec:\s+(\S+)", printed))


def _wrk(connections: int, seconds: int, *arguments: str) -> str:
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    command = ["taskset", "-c", LOAD_CORE, "wrk", *options, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _find(pattern: str, printed: str) -> str:
    found = re.search(pattern, printed)
    if found is None:
        raise SystemExit(f"wrk printed no result:\n{printed}")
    return found[1]

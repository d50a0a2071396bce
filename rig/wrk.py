"""The load generator wrk (Debian: apt install wrk)."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rig.service import PATH
from rig.wire import Listens

_SCRIPT = Path(__file__).with_name("requests.lua")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of wrk.

    `p99` is in milliseconds. `refused` counts responses other than 2xx and 3xx, `failed` connection
    errors and timeouts.
    """

    per_second: float
    p99: float
    requests: int
    refused: int
    failed: int


def load(
    to: Listens,
    tokens: Path,
    *,
    connections: int,
    seconds: int,
    pipelined: int = 1,
    prefix: Sequence[str] = (),
) -> Run:
    """Start sessions without pause, with the tokens of a file (one a line) one after the other.

    `pipelined` requests are sent at once on each connection. `prefix` comes before the command.
    Raises RuntimeError when no request is answered.
    """
    url = f"http://127.0.0.1:{to.port}{PATH}"
    arguments = ("-s", str(_SCRIPT), url, "--", str(tokens), str(pipelined))
    printed = _wrk(connections, seconds, *arguments, prefix=prefix)
    per_second, p99, requests, refused, failed = _find(r"RESULT (.+)", printed).split()
    if requests == "0":
        raise RuntimeError(f"no response within {seconds} seconds:\n{printed}")
    return Run(float(per_second), float(p99), int(requests), int(refused), int(failed))


def get(
    to: Listens, path: str, *, connections: int, seconds: int, prefix: Sequence[str] = ()
) -> float:
    """Send plain GET requests. Return the number of responses in a second."""
    url = f"http://127.0.0.1:{to.port}{path}"
    return float(_find(r"Requests/sec:\s+(\S+)", _wrk(connections, seconds, url, prefix=prefix)))


def _wrk(connections: int, seconds: int, *arguments: str, prefix: Sequence[str]) -> str:
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    command = [*prefix, "wrk", *options, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _find(pattern: str, printed: str) -> str:
    found = re.search(pattern, printed)
    if found is None:
        raise RuntimeError(f"wrk printed no result:\n{printed}")
    return found[1]

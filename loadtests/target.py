"""The service under load, as an operator runs it, and a stand-in for Vapi."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from time import sleep
from uuid import uuid4

ROOT = Path(__file__).parents[1]
PATH = "/api/v1/sessions/vapi/start"
_PORT = re.compile(r"(?:serving on \S+ port |[Ll]istening at: http://127\.0\.0\.1:)(\d+)")
_HERTZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Target:
    """A running service: its address, the secret of its tokens, its process."""

    url: str
    secret: str
    pid: int

    @property
    def port(self) -> int:
        """The port of the address."""
        return int(self.url.rpartition(":")[2])

    def children(self) -> list[int]:
        """Return the ids of its child processes: the workers of gunicorn."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii")
        return [int(pid) for pid in children.split()]

    def pids(self) -> list[int]:
        """Return the ids of the serving processes: the workers, or the only process."""
        return self.children() or [self.pid]

    def rss_megabytes(self) -> float:
        """Return the resident memory of all serving processes."""
        return sum(_rss_kilobytes(pid) for pid in self.pids()) / 1024

    def cpu_seconds(self) -> list[float]:
        """Return the processor time used by each serving process so far."""
        return [_cpu_seconds(pid) for pid in self.pids()]


def _rss_kilobytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return int(found[1]) if found else 0


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _HERTZ


@contextmanager
def serving(*, workers: int = 0, **variables: str) -> Iterator[Target]:
    """Run the service and a stand-in for Vapi: one process, or `workers` under gunicorn."""
    secret = token_hex(32)
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environ = {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "VAPI_API_KEY": str(uuid4()),
        "VAPI_PUBLIC_API_KEY": str(uuid4()),
        "VAPI_ORG_ID": str(uuid4()),
        "VAPI_ASSISTANT_ID": str(uuid4()),
        "JWT_SECRET": secret,
        "HOST": "127.0.0.1",
        "PORT": "0",
        **variables,
    }
    with _process(["loadtests.fake_vapi"], environ) as (_, vapi_port):
        environ["VAPI_BASE_URL"] = f"http://127.0.0.1:{vapi_port}"
        with _process(_command(workers), environ) as (pid, port):
            target = Target(f"http://127.0.0.1:{port}", secret, pid)
            while workers and len(target.children()) < workers:
                sleep(0.05)
            yield target


def _command(workers: int) -> list[str]:
    if not workers:
        return ["server"]
    worker = "aiohttp.GunicornUVLoopWebWorker"
    return ["gunicorn", "server.app:app_factory", "-k", worker, "-w", str(workers)]


@contextmanager
def _process(module: list[str], environ: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Run a module as a process. Yield its id, and the port that it logs.

    Its output goes to files, so that it never waits for a reader.
    """
    folder = ROOT / "build" / "loadtests"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{module[0]}.log"
    with log.open("wb") as err, (folder / f"{module[0]}.out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *module], cwd=ROOT, env=environ, stdout=out, stderr=err
        )
        try:
            yield process.pid, _port(process, log)
        finally:
            process.terminate()
            process.wait()


def _port(process: "subprocess.Popen[bytes]", log: Path) -> str:
    while process.poll() is None:
        if found := _PORT.search(log.read_text("utf-8")):
            return found[1]
        sleep(0.05)
    raise SystemExit(f"the service did not start:\n{log.read_text('utf-8')}")

"""The servers under measurement: each in a process of its own, on one core, on loopback."""

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from benchmarks.keys import Material
from rig import wrk
from rig.process import ROOT, cpu_seconds, rss_megabytes
from rig.redis_server import free_port
from rig.service import SECRET, VARIABLES

START_SECONDS = 20.0
SERVER_CORE = "0"
LOAD_CORE = "1"
FASTIFY = Path(__file__).parent / "peers" / "fastify" / "server.mjs"

SERVICE = {
    **{name: value for name, value in VARIABLES.items() if name != "JWT_SECRET"},
    "RATE_LIMIT": "1000000/minute",
    "LOG_LEVEL": "WARNING",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its port and its process."""

    port: int
    pid: int

    @property
    def cpu_seconds(self) -> float:
        """The processor time used so far."""
        return cpu_seconds(self.pid)

    @property
    def memory_mb(self) -> float:
        """The resident memory, in MiB."""
        return rss_megabytes(self.pid)

    def load(self, tokens: Path, *, connections: int, seconds: int, pipelined: int = 1) -> wrk.Run:
        """Start sessions without pause, with wrk on a core of its own."""
        return wrk.load(
            self,
            tokens,
            connections=connections,
            seconds=seconds,
            pipelined=pipelined,
            prefix=("taskset", "-c", LOAD_CORE),
        )


def allow_many_connections() -> None:
    """Raise the limit of open files, for wrk and for the servers, which inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def _running(
    command: Sequence[str],
    port: int,
    environment: Mapping[str, str],
    *,
    core: str = SERVER_CORE,
    folder: Path = ROOT,
) -> Iterator[Server]:
    """Run a server on one core for the duration of the context, which starts once it accepts."""
    process = subprocess.Popen(
        ["taskset", "-c", core, *command],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = monotonic() + START_SECONDS
        while not _accepts(port):
            if process.poll() is not None or monotonic() > deadline:
                raise SystemExit(f"the server does not start: {' '.join(command)}")
            sleep(0.05)
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _peer_environment(material: Material) -> dict[str, str]:
    return {"PEER_KEY": material.verification_key, "PEER_ALGORITHM": material.algorithm}


@contextmanager
def bare() -> Iterator[Server]:
    """Run a bare aiohttp handler."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.peers.bare", str(port)]
    with _running(command, port, {}) as server:
        yield server


@contextmanager
def fastapi(material: Material) -> Iterator[Server]:
    """Run the FastAPI peer."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.peers.fastapi_peer", str(port)]
    with _running(command, port, _peer_environment(material)) as server:
        yield server


@contextmanager
def fastify(material: Material, redis_url: str = "") -> Iterator[Server]:
    """Run the Fastify peer; with an address of Redis it asks ioredis."""
    port = free_port()
    environment = {**_peer_environment(material), "PEER_REDIS": redis_url}
    with _running(["node", str(FASTIFY), str(port)], port, environment) as server:
        yield server


@contextmanager
def redis(round_trip: float) -> Iterator[str]:
    """Run a Redis, so many seconds away, beside the load generator; yield its address."""
    port, proxy = free_port(), free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    delaying = [sys.executable, "-m", "rig.tcp_proxy", str(proxy), str(port), str(round_trip / 2)]
    with ExitStack() as stack:
        stack.enter_context(_running(["redis-server", *options], port, {}, core=LOAD_CORE))
        if round_trip:
            stack.enter_context(_running(delaying, proxy, {}, core=LOAD_CORE))
        yield f"redis://127.0.0.1:{proxy if round_trip else port}"


@contextmanager
def service(material: Material, tree: Path | None = None, /, **variables: str) -> Iterator[Server]:
    """Run the service with its default settings, apart from SERVICE and `variables`.

    `tree` is a folder with another version of it, and with a `.venv`.
    """
    port = free_port()
    environment = {**SERVICE, **material.variables, **variables, "PORT": str(port)}
    python = str(tree / ".venv" / "bin" / "python") if tree else sys.executable
    command = [python, "-m", "server"]
    with _running(command, port, environment, folder=tree or ROOT) as server:
        yield server


@contextmanager
def host(*, with_endpoint: bool) -> Iterator[Server]:
    """Run a host application, with or without the endpoint mounted."""
    port = free_port()
    variant = "mounted" if with_endpoint else "alone"
    command = [sys.executable, "-m", "benchmarks.host", str(port), variant]
    with _running(command, port, {**SERVICE, "JWT_SECRET": SECRET}) as server:
        yield server

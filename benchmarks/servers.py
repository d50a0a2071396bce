"""The servers under measurement: each in a process of its own, on one core, on loopback."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from benchmarks.keys import Material

START_SECONDS = 20.0
SERVER_CORE = "0"
LOAD_CORE = "1"
FASTIFY = Path(__file__).parent / "peers" / "fastify" / "server.mjs"

SERVICE = {
    "VAPI_API_KEY": "00000000-bench-4000-8000-000000000000",
    "VAPI_PUBLIC_API_KEY": "11111111-bench-4111-8111-111111111111",
    "VAPI_ASSISTANT_ID": "22222222-bench-4222-8222-222222222222",
    "VAPI_ORG_ID": "33333333-bench-4333-8333-333333333333",
    "VAPI_CHECK_SECONDS": "0",
    "RATE_LIMIT": "1000000/minute",
    "LOG_LEVEL": "WARNING",
    "HOST": "127.0.0.1",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its port and its process."""

    port: int
    pid: int

    @property
    def cpu_seconds(self) -> float:
        """The processor time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_mb(self) -> float:
        """The resident memory, in MiB."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def _running(
    command: Sequence[str], port: int, environment: Mapping[str, str], core: str = SERVER_CORE
) -> Iterator[Server]:
    """Run a server on one core for the duration of the context, which starts once it accepts."""
    process = subprocess.Popen(
        ["taskset", "-c", core, *command],
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
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.peers.bare", str(port)]
    with _running(command, port, {}) as server:
        yield server


@contextmanager
def fastapi(material: Material) -> Iterator[Server]:
    """Run the FastAPI peer."""
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.peers.fastapi_peer", str(port)]
    with _running(command, port, _peer_environment(material)) as server:
        yield server


@contextmanager
def fastify(material: Material, redis_url: str = "") -> Iterator[Server]:
    """Run the Fastify peer; with an address of Redis it asks ioredis."""
    port = _free_port()
    environment = {**_peer_environment(material), "PEER_REDIS": redis_url}
    with _running(["node", str(FASTIFY), str(port)], port, environment) as server:
        yield server


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis beside the load generator; yield its address."""
    port = _free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with _running(["redis-server", *options], port, {}, core=LOAD_CORE):
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def service(material: Material, **variables: str) -> Iterator[Server]:
    """Run the service with its default settings, apart from SERVICE and `variables`."""
    port = _free_port()
    environment = {**SERVICE, **material.variables, **variables, "PORT": str(port)}
    with _running([sys.executable, "-m", "server"], port, environment) as server:
        yield server


@contextmanager
def host(*, with_endpoint: bool) -> Iterator[Server]:
    """Run a host application, with or without the endpoint mounted."""
    port = _free_port()
    variant = "mounted" if with_endpoint else "alone"
    command = [sys.executable, "-m", "benchmarks.host", str(port), variant]
    secret = {"JWT_SECRET": "a-secret-for-benchmarks-of-32-bytes-or-more"}
    with _running(command, port, {**SERVICE, **secret}) as server:
        yield server

"""Starts what is measured: each server a process of its own, on one core, on loopback."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic, sleep

from benchmarks.keys import Material

START_SECONDS = 20.0
SERVER_CORE = "0"

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
    """A server that runs: where it answers, and which process it is."""

    port: int
    pid: int

    @property
    def cpu_seconds(self) -> float:
        """How much processor time it has used so far."""
        with open(f"/proc/{self.pid}/stat") as stat:  # noqa: PTH123  not a file to find a path of
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_mb(self) -> float:
        """How much memory it holds, in MiB."""
        with open(f"/proc/{self.pid}/statm") as statm:  # noqa: PTH123  nor this
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def running(command: Sequence[str], port: int, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run a command until it is no longer needed; give it once it listens."""
    process = subprocess.Popen(
        ["taskset", "-c", SERVER_CORE, sys.executable, *command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
    )
    try:
        give_up = monotonic() + START_SECONDS
        while not _answers(port):
            if process.poll() is not None or monotonic() > give_up:
                raise SystemExit(f"it does not start: {' '.join(command)}")
            sleep(0.05)
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def bare() -> Iterator[Server]:
    """Run a bare aiohttp handler."""
    port = _free_port()
    with running(["-m", "benchmarks.peers.bare", str(port)], port, {}) as server:
        yield server


@contextmanager
def fastapi(material: Material) -> Iterator[Server]:
    """Run FastAPI with PyJWT."""
    port = _free_port()
    environment = {"PEER_KEY": material.verification_key, "PEER_ALGORITHM": material.algorithm}
    command = ["-m", "benchmarks.peers.fastapi_peer", str(port)]
    with running(command, port, environment) as server:
        yield server


@contextmanager
def service(material: Material, **variables: str) -> Iterator[Server]:
    """Run the service, with everything of it switched on."""
    port = _free_port()
    environment = {**SERVICE, **material.variables, **variables, "PORT": str(port)}
    with running(["-m", "server"], port, environment) as server:
        yield server


@contextmanager
def host(*, with_endpoint: bool) -> Iterator[Server]:
    """Run a host application, with the endpoint mounted in it or without."""
    port = _free_port()
    command = ["-m", "benchmarks.host", str(port), "mounted" if with_endpoint else "alone"]
    secret = {"JWT_SECRET": "a-secret-for-benchmarks-of-32-bytes-or-more"}
    with running(command, port, {**SERVICE, **secret}) as server:
        yield server

"""The service as an operator runs it: gunicorn with two workers, and its upstreams."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from loadtests.chaos.upstreams import (
    HOST,
    ISSUER,
    DelayProxy,
    IdentityProvider,
    RedisServer,
    VapiStandIn,
    free_port,
    serve_upstreams,
    until,
)
from loadtests.target import ROOT

GRACE_SECONDS = 5.0


class AuditReader:
    """Reads the audit lines from the standard output of the service; it can be suspended."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self.granted: set[str] = set()
        self.malformed = 0

    def resume(self) -> None:
        """Read lines as they arrive."""
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def suspend(self) -> None:
        """Stop reading: the pipe fills up."""
        asyncio.get_running_loop().remove_reader(self._descriptor)

    def _read(self) -> None:
        *lines, self._rest = (self._rest + os.read(self._descriptor, 65536)).split(b"\n")
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                self.malformed += 1
                continue
            if record["outcome"] == "granted":
                self.granted.add(record["request_id"])


@dataclass(slots=True)
class Service:
    """The running service."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"
    audit: AuditReader

    def workers(self, pid: int | None = None) -> list[int]:
        """Return the process ids of the workers of a master."""
        pid = pid or self.process.pid
        with suppress(OSError):
            text = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
            return [int(child) for child in text.split()]
        return []

    def memory_megabytes(self) -> float:
        """Return the resident memory of the largest worker."""
        return max((_rss_kilobytes(pid) for pid in self.workers()), default=0) / 1024

    async def wait_for_workers(self, other_than: set[int]) -> None:
        """Wait until two workers serve, none of them in `other_than`."""
        await until(lambda: len(set(self.workers()) - other_than) == len(self.workers()) == 2)


def write_settings(folder: Path, settings: Mapping[str, str]) -> None:
    """Write the `.env` file."""
    lines = [f"{name}={value}\n" for name, value in settings.items()]
    (folder / ".env").write_text("".join(lines))


def _rss_kilobytes(pid: int) -> int:
    with suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text("ascii"))
        return int(found[1]) if found else 0
    return 0


@dataclass(slots=True)
class Rig:
    """The service and its upstreams."""

    service: Service
    settings: dict[str, str]
    redis: RedisServer
    proxy: DelayProxy
    provider: IdentityProvider
    vapi: VapiStandIn


@asynccontextmanager
async def rig(*, open_files: int = 0, **variables: str) -> AsyncIterator[Rig]:
    """Start everything; `open_files` limits the open files of the service."""
    provider, vapi = IdentityProvider(), VapiStandIn()
    upstreams, address = await serve_upstreams(provider, vapi)
    with TemporaryDirectory(prefix="vapi-sessions-chaos-") as name:
        folder = Path(name)
        redis = RedisServer(folder)
        redis.start()
        proxy = DelayProxy(redis.port)
        await proxy.start()
        settings = _settings(address, proxy.port) | variables
        service = await _start(folder, settings, open_files)
        try:
            yield Rig(service, settings, redis, proxy, provider, vapi)
        finally:
            service.audit.suspend()
            if service.process.poll() is None:
                service.process.kill()
            service.process.wait()
            await proxy.stop()
            redis.kill()
            await upstreams.cleanup()


def _settings(address: str, redis_port: int) -> dict[str, str]:
    return {
        "VAPI_API_KEY": str(uuid4()),
        "VAPI_PUBLIC_API_KEY": str(uuid4()),
        "VAPI_ASSISTANT_ID": str(uuid4()),
        "VAPI_BASE_URL": address,
        "VAPI_CHECK_SECONDS": "1",
        "JWT_JWKS_URL": f"{address}/jwks",
        "JWT_ISSUER": ISSUER,
        "JWKS_CACHE_SECONDS": "1",
        "JWKS_COOLDOWN_SECONDS": "0.5",
        "RATE_LIMIT": "1000000/minute",
        "REDIS_URL": f"redis://{HOST}:{redis_port}",
        "METRICS_ENABLED": "true",
        "SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS),
        "HOST": HOST,
        "PORT": str(free_port()),
    }


async def _start(folder: Path, settings: dict[str, str], open_files: int) -> Service:
    read, write = os.pipe()
    worker = "aiohttp.GunicornUVLoopWebWorker"
    gunicorn = str(Path(sys.executable).with_name("gunicorn"))
    command = [gunicorn, "server.app:app_factory", "-k", worker, "-w", "2"]
    (folder / "gunicorn.conf.py").symlink_to(ROOT / "gunicorn.conf.py")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    write_settings(folder, settings)
    limited = ["prlimit", f"--nofile={open_files}"] if open_files else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220  it returns at once
            [*limited, *command], cwd=folder, env=environ, stdout=write, stderr=log
        )
    os.close(write)
    service = Service(folder, int(settings["PORT"]), process, AuditReader(read))
    service.audit.resume()
    await wait_until_ready(service)
    return service


async def wait_until_ready(service: Service) -> None:
    """Wait until `/readyz` answers 200 `ready` ten times: both workers are ready."""
    answers = 0
    while answers < 10:
        if service.process.poll() is not None:
            raise SystemExit((service.folder / "log").read_text("utf-8"))
        answers = answers + 1 if await _is_ready(service.port) else 0
        await asyncio.sleep(0.02)


async def _is_ready(port: int) -> bool:
    with suppress(OSError, EOFError, TimeoutError):
        async with asyncio.timeout(3):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            response = await reader.read()
            writer.close()
            return response.startswith(b"HTTP/1.1 200") and b'"ready"' in response
    return False

"""The service as an operator runs it: gunicorn with two workers, and its upstreams."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rig.issuer import ISSUER, Issuer, issuing
from rig.process import TWO_WORKERS, Running, children, rss_megabytes, started
from rig.redis_server import RedisServer
from rig.service import VARIABLES, claims
from rig.tcp_proxy import TcpProxy
from rig.vapi import StandIn, vapi
from rig.wire import exchange, get


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
            if record.get("outcome") == "granted":
                self.granted.add(record["request_id"])


@dataclass(slots=True)
class Service:
    """The running service."""

    folder: Path
    running: Running
    audit: AuditReader

    @property
    def port(self) -> int:
        """Its port."""
        return self.running.port

    @property
    def has_ended(self) -> bool:
        """Whether the master has ended."""
        return self.running.process.returncode is not None

    def workers(self, pid: int | None = None) -> list[int]:
        """Return the process ids of the workers of a master."""
        return children(pid or self.running.pid)

    def memory_megabytes(self) -> float:
        """Return the resident memory of the largest worker."""
        return max(map(rss_megabytes, self.workers()), default=0)

    async def wait_for_workers(self, other_than: set[int]) -> None:
        """Wait until two workers serve, none of them in `other_than`."""
        await until(lambda: len(set(self.workers()) - other_than) == len(self.workers()) == 2)


@dataclass(slots=True)
class Rig:
    """The service and its upstreams."""

    service: Service
    settings: dict[str, str]
    redis: RedisServer
    proxy: TcpProxy
    issuer: Issuer
    vapi: StandIn

    def token(self, patient: str) -> str:
        """Sign a token of a patient."""
        return self.issuer.keys[0].token(claims(iss=ISSUER, id=patient, jti=patient))


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition is true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  the condition is about another process
            await asyncio.sleep(0.05)


def write_settings(folder: Path, settings: Mapping[str, str]) -> None:
    """Write the `.env` file."""
    lines = [f"{name}={value}\n" for name, value in settings.items()]
    (folder / ".env").write_text("".join(lines))


@asynccontextmanager
async def rig(*, open_files: int = 0, **variables: str) -> AsyncIterator[Rig]:
    """Start everything; `open_files` limits the open files of the service."""
    with TemporaryDirectory(prefix="vapi-sessions-chaos-") as name:
        folder = Path(name)
        redis = await RedisServer(folder).start()
        proxy = TcpProxy(redis.port)
        await proxy.start()
        try:
            async with issuing() as issuer, vapi() as stand_in:
                settings = _settings(issuer, stand_in, proxy) | variables
                async with _serving(folder, settings, open_files) as service:
                    yield Rig(service, settings, redis, proxy, issuer, stand_in)
        finally:
            await proxy.stop()
            await redis.stop()


def _settings(issuer: Issuer, stand_in: StandIn, proxy: TcpProxy) -> dict[str, str]:
    return {
        **VARIABLES,
        **issuer.variables,
        "VAPI_BASE_URL": stand_in.url,
        "VAPI_CHECK_SECONDS": "1",
        "JWKS_CACHE_SECONDS": "1",
        "JWKS_COOLDOWN_SECONDS": "0.5",
        "RATE_LIMIT": "1000000/minute",
        "REDIS_URL": proxy.url,
        "METRICS_ENABLED": "true",
        "SHUTDOWN_GRACE_SECONDS": "5",
    }


@asynccontextmanager
async def _serving(
    folder: Path, settings: Mapping[str, str], open_files: int
) -> AsyncIterator[Service]:
    write_settings(folder, settings)
    limited = ("prlimit", f"--nofile={open_files}") if open_files else ()
    read, write = os.pipe()
    try:
        async with started((*limited, *TWO_WORKERS), folder, {}, stdout=write) as running:
            service = Service(folder, running, AuditReader(read))
            service.audit.resume()
            await _wait_until_ready(service)
            yield service
            service.audit.suspend()
            with suppress(ProcessLookupError):
                running.process.kill()
    finally:
        os.close(read)
        os.close(write)


async def _wait_until_ready(service: Service) -> None:
    """Wait until `/readyz` answers 200 `ready` ten times: both workers are ready."""
    answers = 0
    while answers < 10:
        answers = answers + 1 if await _is_ready(service) else 0
        await asyncio.sleep(0.02)


async def _is_ready(service: Service) -> bool:
    with suppress(OSError, EOFError, TimeoutError):
        async with asyncio.timeout(3):
            answer = await exchange(service, get("/readyz"))
            return answer.status == 200 and answer.json["status"] == "ready"
    return False

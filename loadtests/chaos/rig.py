"""The service as an operator runs it: gunicorn with two workers, and its upstreams."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtests.chaos.load import Connect, directly
from rig.issuer import ISSUER, Issuer, issuing
from rig.process import ONE_WORKER, TWO_WORKERS, Running, children, rss_megabytes, started
from rig.proxies import PROXIES
from rig.redis_server import RedisServer, free_port
from rig.service import VARIABLES, claims
from rig.tcp_proxy import TcpProxy
from rig.vapi import StandIn, vapi
from rig.waiting import until
from rig.wire import exchange, get

Output = tuple[int, int]
"""The file descriptors from which audit lines are read and to which the service writes them."""


class AuditReader:
    """Reads the audit lines of the service from a file descriptor; it can be suspended."""

    def __init__(self, descriptor: int, granted: set[str] | None = None) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self.granted: set[str] = set() if granted is None else granted
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
    connect: Connect
    restart: Callable[[], Awaitable[None]] | None = None

    def token(self, patient: str) -> str:
        """Sign a token of a patient."""
        return self.issuer.keys[0].token(claims(iss=ISSUER, id=patient, jti=patient))


def write_settings(folder: Path, settings: Mapping[str, str]) -> None:
    """Write the `.env` file."""
    lines = [f"{name}={value}\n" for name, value in settings.items()]
    (folder / ".env").write_text("".join(lines))


@asynccontextmanager
async def rig(
    *,
    prefix: Sequence[str] = (),
    command: Sequence[str] = TWO_WORKERS,
    output: Output | None = None,
    redis_program: str = "redis-server",
    acl: Sequence[str] = (),
    **variables: str,
) -> AsyncIterator[Rig]:
    """Start everything.

    The `command` of the service gets a `prefix`; its audit log goes to `output`, by default a pipe.
    With `acl`, the words that give a user of Redis its permissions, the service is that user.
    """
    with TemporaryDirectory(prefix="vapi-sessions-chaos-") as name:
        folder = Path(name)
        redis = await RedisServer(folder, redis_program).start()
        if acl:
            await redis.execute("ACL", "SETUSER", *acl)
        proxy = TcpProxy(redis.port)
        await proxy.start()
        user = f"{acl[0]}:PASSWORD@" if acl else ""
        try:
            async with issuing() as issuer, vapi() as stand_in:
                settings = _settings(issuer, stand_in, proxy, user) | variables
                async with _serving(folder, settings, (*prefix, *command), output) as service:
                    connect = directly(service)
                    yield Rig(service, settings, redis, proxy, issuer, stand_in, connect)
        finally:
            await proxy.stop()
            await redis.stop()


one_worker = partial(rig, command=ONE_WORKER)


@asynccontextmanager
async def behind(name: str) -> AsyncIterator[Rig]:
    """Start two services behind a proxy, of which the second can be restarted."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(
            one_worker(SHUTDOWN_DELAY_SECONDS="2", SHUTDOWN_GRACE_SECONDS="2")
        )
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="vapi-sessions-proxy-")))
        settings = one.settings | {"PORT": str(free_port())}

        async def start() -> Service:
            granted = one.service.audit.granted
            (folder / "two").mkdir(exist_ok=True)
            serving = _serving(folder / "two", settings, ONE_WORKER, granted=granted)
            return await stack.enter_async_context(serving)

        two = await start()
        ports = (one.service.port, two.port)
        machine = await stack.enter_async_context(PROXIES[name](folder / "proxy", ports))

        async def restart() -> None:
            two.running.process.terminate()
            await until(lambda: two.has_ended)
            await start()

        one.connect, one.restart = machine.connect, restart
        yield one


def _settings(issuer: Issuer, stand_in: StandIn, proxy: TcpProxy, user: str) -> dict[str, str]:
    return {
        **VARIABLES,
        **issuer.variables,
        "VAPI_BASE_URL": stand_in.url,
        "VAPI_CHECK_SECONDS": "1",
        "JWKS_CACHE_SECONDS": "1",
        "JWKS_COOLDOWN_SECONDS": "0.5",
        "RATE_LIMIT": "1000000/minute",
        "REDIS_URL": proxy.url.replace("//", f"//{user}"),
        "METRICS_ENABLED": "true",
        "SHUTDOWN_GRACE_SECONDS": "5",
    }


@asynccontextmanager
async def _serving(
    folder: Path,
    settings: Mapping[str, str],
    command: Sequence[str],
    output: Output | None = None,
    granted: set[str] | None = None,
) -> AsyncIterator[Service]:
    write_settings(folder, settings)
    read, write = os.pipe() if output is None else output
    try:
        async with started(command, folder, {}, stdout=write) as running:
            service = Service(folder, running, AuditReader(read, granted))
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
        answers = answers + 1 if await is_ready(service) else 0
        await asyncio.sleep(0.02)


async def is_ready(service: Service) -> bool:
    """Whether `/readyz` is 200 and `ready`."""
    with suppress(OSError, EOFError, TimeoutError):
        async with asyncio.timeout(3):
            answer = await exchange(service, get("/readyz"))
            return answer.status == 200 and answer.json["status"] == "ready"
    return False

"""nginx and HAProxy with the files of `deploy/`, on loopback, in front of two services."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from rig.machine import Machine
from rig.process import ROOT
from rig.redis_server import free_port

HOSTS = ("voice.clinic.example", "north.clinic.example")
_DEPLOY = ROOT / "deploy"


def _machine(root: Path, ports: tuple[int, int]) -> Machine:
    listen = {"443": free_port(), "8080": ports[0], "8082": ports[1], "8081": ports[0]}
    return Machine(root, HOSTS, listen)


async def _listens(machine: Machine) -> bool:
    try:
        _, writer = await machine.connect(1)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def _running(machine: Machine, *command: str) -> AsyncIterator[None]:
    with (machine.root / "proxy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=machine.root, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(10):
            while not await _listens(machine):
                assert process.returncode is None, (machine.root / "proxy.log").read_text()
                await asyncio.sleep(0.02)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def nginx(root: Path, ports: tuple[int, int]) -> AsyncIterator[Machine]:
    """Run nginx in front of the services on these ports."""
    machine = _machine(root, ports)
    places = {"conf.d": "vapi-sessions.conf", "vapi-sessions": "server.conf"}
    for folder, name in [*places.items(), ("vapi-sessions", "proxy.conf")]:
        (root / "etc/nginx" / folder).mkdir(exist_ok=True)
        text = (_DEPLOY / "nginx" / name).read_text("utf-8").replace("#server", "server")
        (root / "etc/nginx" / folder / name).write_text(machine.local(text), "utf-8")
    async with _running(machine, str(root / "bin/nginx"), "-g", "daemon off;"):
        yield machine


@asynccontextmanager
async def haproxy(root: Path, ports: tuple[int, int]) -> AsyncIterator[Machine]:
    """Run HAProxy in front of the services on these ports."""
    machine = _machine(root, ports)
    text = (_DEPLOY / "haproxy" / "haproxy.cfg").read_text("utf-8").replace("#server", "server")
    (root / "haproxy.cfg").write_text(machine.local(text), "utf-8")
    async with _running(machine, "haproxy", "-W", "-f", str(root / "haproxy.cfg")):
        yield machine


PROXIES: dict[str, Callable[[Path, tuple[int, int]], AbstractAsyncContextManager[Machine]]] = {
    "nginx": nginx,
    "haproxy": haproxy,
}


def is_installed(name: str) -> bool:
    """Whether the proxy and what its certificate needs are there."""
    return all(map(shutil.which, (name, "openssl")))

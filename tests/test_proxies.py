"""The files of `deploy/nginx` and `deploy/haproxy`, run by the real programs."""

import asyncio
import json
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtests.chaos.load import Load
from rig.machine import Machine
from rig.process import ALONE, Running, started
from rig.proxies import PROXIES, is_installed
from rig.service import VARIABLES, claims, sign
from rig.waiting import eventually
from rig.wire import WireAnswer, exchange, get, head, read_answer, start_request

LONG_TOKEN = sign(claims(filling="x" * 11_000))
SETTINGS = {
    **VARIABLES,
    "RATE_LIMIT": "off",
    "TRUSTED_PROXIES": "127.0.0.1/32",
    "SHUTDOWN_DELAY_SECONDS": "3",
    "SHUTDOWN_GRACE_SECONDS": "3",
}


@dataclass
class Pair:
    """A proxy in front of two services."""

    proxy: Machine
    services: list[Running]
    folder: Path

    async def ask(self, request: bytes, client: int = 99) -> WireAnswer:
        """Send a request through the proxy."""
        reader, writer = await self.proxy.connect(client)
        writer.write(request)
        answer = await read_answer(reader)
        writer.close()
        return answer

    async def first_line(self) -> Any:
        """Wait for an audit line of either service; return it."""
        waiting = [asyncio.ensure_future(each.audit.find("^{.*")) for each in self.services]
        done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        return json.loads(done.pop().result()[0])


def case(name: str) -> Any:
    """Return a proxy as a parameter; skipped when its program is not installed."""
    skip = pytest.mark.skipif(not is_installed(name), reason=f"Debian: apt install {name} openssl")
    return pytest.param(name, marks=skip)


@pytest.fixture(params=[case(name) for name in PROXIES])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        services = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            services.append(
                await stack.enter_async_context(started(ALONE, tmp_path / name, SETTINGS))
            )
        ports = (services[0].port, services[1].port)
        run = PROXIES[request.param]
        proxy = await stack.enter_async_context(run(tmp_path / "proxy", ports))
        yield Pair(proxy, services, tmp_path)


async def is_ready(service: Running) -> bool:
    try:
        return (await exchange(service, get("/readyz"))).status == 200
    except OSError:
        return False


async def test_restart_of_one_of_two_services_loses_nothing(pair: Pair) -> None:
    load = Load(pair.proxy.connect, lambda patient: sign(claims(id=patient)), rate=100, clients=20)
    running = asyncio.create_task(load.run())
    first = pair.services[0]
    assert (await first.terminate()).status == 0
    settings = {**SETTINGS, "PORT": str(first.port)}
    async with started(ALONE, pair.folder / "one", settings) as again:
        await eventually(lambda: is_ready(again))
        await again.audit.find('"granted"')  # the proxy uses it again
        load.stop()
        await running
        assert load.record.lost == []
        assert load.record.unconnected == 0
        assert {answer.status for answer in load.record.answers} == {200}
        assert len(load.record.answers) > 200


async def refuses_old_tls(proxy: Machine) -> bool:
    command = ["openssl", "s_client", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
    process = await asyncio.create_subprocess_exec(
        *(*command, "-connect", f"127.0.0.1:{proxy.port}"),
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    return await process.wait() != 0


async def test_proxy_forwards_public_paths_and_limits_each_address(pair: Pair) -> None:
    for path in ("/metrics", "/readyz", "/openapi.json", "/docs", "/"):
        assert (await pair.ask(get(path))).status == 404

    answer = await pair.ask(start_request("pt_1", "X-Forwarded-For: 203.0.113.9"), client=77)
    assert answer.status == 200
    assert not any(char.isdigit() for char in answer.headers.get("Server", ""))
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert (await pair.first_line())["client"] == "127.0.1.77"

    assert len(LONG_TOKEN) > 14_000
    assert (await pair.ask(head("Content-Length: 0", token=LONG_TOKEN))).status == 200

    answers = [await pair.ask(start_request(), client=66) for _ in range(120)]
    refused = [answer for answer in answers if answer.status != 200]
    assert {(answer.status, answer.code) for answer in refused} == {(429, "RATE_LIMITED")}
    assert all(answer.headers["Retry-After"] == "1" for answer in refused)
    assert (await pair.ask(start_request(), client=67)).status == 200

    assert await refuses_old_tls(pair.proxy)

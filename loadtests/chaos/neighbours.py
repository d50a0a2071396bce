"""Faults of what the service stands beside: networks, Redis's hosts, clients, files, proxies."""

import asyncio
import signal
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtests.chaos.faults import reload
from loadtests.chaos.load import flood
from loadtests.chaos.rig import Rig, is_ready, write_settings
from rig.process import run
from rig.redis_server import RedisServer
from rig.service import claims
from rig.waiting import eventually
from rig.wire import exchange, get, post
from rig.wrk import load

NOTICED_SECONDS = 3.5
"""An outage is noticed within 3 seconds and over soon after."""

FILLS_QUEUE_SECONDS = 8
BUSY_CLIENTS = 1000


async def _iptables(*rule: str) -> None:
    process = await asyncio.create_subprocess_exec("iptables", "-w", *rule)
    assert await process.wait() == 0


async def packets_vanish(rig: Rig, seconds: float) -> None:
    """Drop all packets of the connections to Redis, without a reset; new ones are not affected."""
    proxy = str(rig.proxy.port)
    for client in rig.proxy.ends.intersection(rig.proxy.clients):
        port = str(client.transport.get_extra_info("peername")[1])
        for source, target in ((port, proxy), (proxy, port)):
            ports = ("--sport", source, "--dport", target)
            await _iptables("-A", "INPUT", "-p", "tcp", *ports, "-j", "DROP")
    await asyncio.sleep(max(seconds, NOTICED_SECONDS))
    ready = await is_ready(rig.service)
    await _iptables("-F", "INPUT")
    assert ready, "not ready while the old connections are dead"


async def hung_proxy(rig: Rig, seconds: float) -> None:
    """Let the proxy of Redis accept connections and forward nothing."""
    rig.proxy.is_stalled = True
    await asyncio.sleep(seconds)
    rig.proxy.is_stalled = False


async def failover(rig: Rig, seconds: float) -> None:
    """Make Redis a replica of another server, to which the name moves; then move it back."""
    with TemporaryDirectory() as name:
        other = await RedisServer(Path(name)).start()
        try:
            await rig.redis.execute("REPLICAOF", "127.0.0.1", str(other.port))
            rig.proxy.target = other.port
            await asyncio.sleep(max(seconds, NOTICED_SECONDS))
            assert await other.execute("DBSIZE") != "0", "nothing is written after the failover"
        finally:
            await rig.redis.execute("REPLICAOF", "NO", "ONE")
            rig.proxy.target = rig.redis.port
            await other.execute("REPLICAOF", "127.0.0.1", str(rig.redis.port))
            await eventually(lambda: is_ready(rig.service))
            await other.stop()


async def operators_commands(rig: Rig, seconds: float) -> None:
    """Revoke a patient, then lift that and list the revocations."""
    await _succeeds(rig, "revoke", "--patient", "p")
    await asyncio.gather(
        _succeeds(rig, "unrevoke", "--patient", "p"),
        _succeeds(rig, "revocations"),
        asyncio.sleep(seconds),
    )


async def _succeeds(rig: Rig, *arguments: str) -> None:
    ended = await run(rig.service.folder, {}, *arguments)
    assert ended.status == 0, f"{arguments[0]} failed: {ended.err}"


async def flooded(rig: Rig, seconds: float) -> None:
    """Send forged tokens without pause."""
    await flood(rig.service, seconds)


async def flood_and_blocked_output(rig: Rig, seconds: float) -> None:
    """Send forged tokens without pause while nobody reads the audit log, until lines are dropped.

    A short run ends before that: half of the queue takes thousands of lines.
    """
    rig.service.audit.suspend()
    await flood(rig.service, seconds)
    if seconds >= FILLS_QUEUE_SECONDS:
        async with asyncio.timeout(60):
            while not await _has_dropped_lines(rig):
                await flood(rig.service, seconds)
    rig.service.audit.resume()


async def _has_dropped_lines(rig: Rig) -> bool:
    answer = await exchange(rig.service, get("/metrics"))
    return b"vapi_sessions_audit_refusals_dropped_total 0.0" not in answer.body


async def busy_clients(rig: Rig, seconds: float) -> None:
    """Let 1,000 clients connect together and load without pause."""
    tokens = rig.service.folder / "tokens"
    tokens.write_text("\n".join(rig.token(f"busy_{n}") for n in range(200)))
    run = await asyncio.to_thread(
        load, rig.service, tokens, connections=BUSY_CLIENTS, seconds=ceil(seconds) + 1
    )
    assert not run.refused + run.failed, f"the busy clients: {run}"


async def half_written_reload(rig: Rig, seconds: float) -> None:
    """Reload a `.env` that is cut in half: no protection may be switched off."""
    before = rig.service.workers()
    file = rig.service.folder / ".env"
    text = file.read_text("utf-8")
    file.write_text(text[: len(text) // 2], "utf-8")
    rig.service.running.process.send_signal(signal.SIGHUP)
    await asyncio.sleep(seconds)
    foreign = rig.issuer.keys[0].token(claims(iss="https://foreign.example/"))
    answer = await exchange(rig.service, post(b"{}", token=foreign))
    assert answer.status == 401, f"a token of another issuer got {answer.status}"
    assert rig.service.workers() == before, "workers were replaced"
    write_settings(rig.service.folder, rig.settings)
    await reload(rig, 0)


async def restart(rig: Rig, seconds: float) -> None:
    """Restart one of the two services behind the proxy."""
    assert rig.restart is not None
    await rig.restart()
    await asyncio.sleep(seconds)

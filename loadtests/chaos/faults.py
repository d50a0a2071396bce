"""Faults of the service and its upstreams: each function injects one, and removes it."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from os import kill

from aiohttp import web

from loadtests.chaos.load import idle_connections
from loadtests.chaos.rig import Rig, write_settings
from rig.issuer import key
from rig.waiting import until
from sandbox.vapi.behaviour import UP, Behaviour, Fault

Inject = Callable[[Rig, float], Awaitable[None]]
"""Injects a fault, keeps it for a number of seconds, and removes it."""


async def nothing(_: Rig, seconds: float) -> None:
    """Inject no fault."""
    await asyncio.sleep(seconds)


async def reload(rig: Rig, seconds: float) -> None:
    """Reload the configuration with SIGHUP."""
    before = set(rig.service.workers())
    rig.service.running.process.send_signal(signal.SIGHUP)
    await rig.service.wait_for_workers(before)
    await asyncio.sleep(seconds)


async def faulty_reload(rig: Rig, seconds: float) -> None:
    """Reload a faulty configuration with SIGHUP, then repair it and reload again."""
    write_settings(rig.service.folder, rig.settings | {"PORT": "not a port"})
    rig.service.running.process.send_signal(signal.SIGHUP)
    await asyncio.sleep(seconds)
    write_settings(rig.service.folder, rig.settings)
    await reload(rig, 0)


async def upgrade(rig: Rig, seconds: float) -> None:
    """Start a second master with USR2, and terminate its workers and itself again."""
    before = set(rig.service.workers())
    rig.service.running.process.send_signal(signal.SIGUSR2)
    await until(lambda: len(set(rig.service.workers()) - before) == 1)
    [master] = set(rig.service.workers()) - before
    await until(lambda: len(rig.service.workers(master)) == 2)
    await asyncio.sleep(seconds)
    kill(master, signal.SIGTERM)
    await until(lambda: master not in rig.service.workers())


async def kill_worker(rig: Rig, seconds: float) -> None:
    """Kill a worker with SIGKILL."""
    victim = rig.service.workers()[0]
    kill(victim, signal.SIGKILL)
    await rig.service.wait_for_workers({victim})
    await asyncio.sleep(seconds)


async def suspend_worker(rig: Rig, _: float) -> None:
    """Suspend a worker for a second."""
    victim = rig.service.workers()[0]
    kill(victim, signal.SIGSTOP)
    await asyncio.sleep(1)
    kill(victim, signal.SIGCONT)


async def kill_redis(rig: Rig, seconds: float) -> None:
    """Kill Redis and start it again."""
    await rig.redis.stop()
    await asyncio.sleep(seconds)
    await rig.redis.start()


async def suspend_redis(rig: Rig, seconds: float) -> None:
    """Suspend Redis."""
    rig.redis.suspend()
    await asyncio.sleep(seconds)
    rig.redis.resume()


def delay_redis(milliseconds: int) -> Inject:
    """Return an experiment with this round-trip time to Redis."""

    async def inject(rig: Rig, seconds: float) -> None:
        rig.proxy.delay = milliseconds / 2000
        await asyncio.sleep(seconds)
        rig.proxy.delay = 0

    return inject


async def read_only_redis(rig: Rig, seconds: float) -> None:
    """Make Redis a replica, which accepts no writes."""
    await rig.redis.execute("REPLICAOF", "127.0.0.1", "1")
    await asyncio.sleep(seconds)
    await rig.redis.execute("REPLICAOF", "NO", "ONE")


async def full_redis(rig: Rig, seconds: float) -> None:
    """Use up the memory that Redis has for writes."""
    await rig.redis.execute("CONFIG", "SET", "maxmemory", "1")
    await asyncio.sleep(seconds)
    await rig.redis.execute("CONFIG", "SET", "maxmemory", "0")


async def redis_password(rig: Rig, seconds: float) -> None:
    """Require a password that the service does not have, also on open connections."""
    await rig.redis.set_password("secret")
    await rig.redis.drop_connections()
    await asyncio.sleep(seconds)
    await rig.redis.set_password("")


async def _fail(_: web.Request) -> web.Response:
    return web.Response(status=500)


async def failing_jwks(rig: Rig, seconds: float) -> None:
    """Let the JWKS address fail and recover, several times."""
    for respond in (_fail, None, _fail, None):
        rig.issuer.respond = respond
        await asyncio.sleep(seconds / 4)


async def rotating_key(rig: Rig, seconds: float) -> None:
    """Replace the key of the identity provider."""
    rig.issuer.keys = [key("two")]
    await asyncio.sleep(seconds)


async def failing_vapi(rig: Rig, seconds: float) -> None:
    """Let Vapi answer 500."""
    rig.vapi.behave(Behaviour(Fault.STATUS, status=500))
    await asyncio.sleep(seconds)
    rig.vapi.behave(UP)


async def blocked_output(rig: Rig, seconds: float) -> None:
    """Stop reading the audit log."""
    rig.service.audit.suspend()
    await asyncio.sleep(seconds)
    rig.service.audit.resume()


def many_connections(count: int) -> Inject:
    """Return an experiment with this number of idle connections."""

    async def inject(rig: Rig, seconds: float) -> None:
        writers = await idle_connections(rig.service.port, count)
        await asyncio.sleep(seconds)
        for writer in writers:
            writer.close()

    return inject


async def terminate(rig: Rig, _: float) -> None:
    """Terminate the service with SIGTERM."""
    rig.service.running.process.send_signal(signal.SIGTERM)
    await until(lambda: rig.service.has_ended)

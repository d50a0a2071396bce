"""The experiments: each has a fault, and the bounds of the contract while it lasts."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from loadtests.chaos import faults, neighbours
from loadtests.chaos.journal import journal_rig
from loadtests.chaos.machine import JOURNALD, NETWORK, VALKEY, documented_acl, lacks
from loadtests.chaos.rig import Rig, behind, one_worker, rig
from rig.proxies import PROXIES

_UNAVAILABLE = frozenset({"AUTH_UNAVAILABLE"})
_FAILED = frozenset({"VAPI_SESSION_FAILED"})
_FEW_FILES = partial(rig, prefix=("prlimit", "--nofile=150"))
_VALKEY = partial(rig, redis_program=VALKEY, acl=documented_acl())


@dataclass(frozen=True, slots=True)
class Experiment:
    """A fault, and the bounds of the contract while it lasts.

    `codes` are the acceptable error codes, `lost` the acceptable number of lost requests, and
    `recovery` the acceptable seconds until every request is granted again. An experiment with a
    `rig` runs in that one. `connections` are those beside the load. Connections may be refused only
    by an experiment that `ends_service`. `missing` says what the machine lacks for it. With a limit
    for `new_clients`, each request of the load has a new connection, and the 99th percentile of
    their seconds is at most that.
    """

    name: str
    inject: faults.Inject
    codes: frozenset[str] = frozenset()
    lost: int = 0
    recovery: float = 0.0
    rig: Callable[[], AbstractAsyncContextManager[Rig]] | None = None
    connections: int = 0
    ends_service: bool = False
    missing: str = ""
    new_clients: float = 0.0


EXPERIMENTS = [
    Experiment("no fault", faults.nothing),
    Experiment("SIGHUP", faults.reload),
    Experiment("SIGHUP, faulty settings", faults.faulty_reload),
    Experiment("USR2, second master", faults.upgrade),
    Experiment("kill -9 of a worker", faults.kill_worker, lost=20),
    Experiment("SIGSTOP of a worker, 1 s", faults.suspend_worker),
    Experiment("Redis killed", faults.kill_redis, _UNAVAILABLE, recovery=3.5),
    Experiment("Redis suspended", faults.suspend_redis, _UNAVAILABLE, recovery=3.5),
    *(Experiment(f"Redis at {ms} ms", faults.delay_redis(ms)) for ms in (50, 200)),
    Experiment("Redis read-only", faults.read_only_redis),
    Experiment("Redis full", faults.full_redis),
    Experiment("Redis wrong password", faults.redis_password, _UNAVAILABLE, recovery=3.5),
    Experiment("JWKS failing", faults.failing_jwks),
    Experiment("JWKS key rotated", faults.rotating_key, _UNAVAILABLE, recovery=1),
    Experiment(
        "Vapi failing", faults.failing_vapi, frozenset({"VAPI_SESSION_FAILED"}), recovery=3.5
    ),
    Experiment("blocked output", faults.blocked_output),
    Experiment("5,000 connections", faults.many_connections(5000), connections=5000),
    Experiment(
        "new clients, 1,000 busy ones",
        neighbours.busy_clients,
        connections=neighbours.BUSY_CLIENTS,
        missing=lacks("wrk"),
        new_clients=2.0,
    ),
    Experiment(
        "open files used up",
        faults.many_connections(400),
        _UNAVAILABLE,
        lost=20,  # the other connections use up the limit: new ones are closed at once
        recovery=1,
        rig=_FEW_FILES,
    ),
    Experiment(
        "Redis silent drop", neighbours.packets_vanish, _UNAVAILABLE, 0, 3.5, missing=NETWORK
    ),
    Experiment("Redis hung proxy", neighbours.hung_proxy, _UNAVAILABLE, 0, 3.5),
    Experiment("Redis failover", neighbours.failover, _UNAVAILABLE, 0, 3.5),
    Experiment(
        "newest Valkey, documented ACL",
        neighbours.operators_commands,
        rig=_VALKEY,
        missing=lacks(VALKEY),
    ),
    Experiment("401 flood, blocked output", neighbours.flood_and_blocked_output, rig=one_worker),
    Experiment(
        "journald, 100 lines in 30 s",
        neighbours.flooded,
        rig=journal_rig,
        missing=JOURNALD,
    ),
    Experiment("half-written reload", neighbours.half_written_reload),
    *(
        Experiment(
            f"restart behind {name}",
            neighbours.restart,
            rig=partial(behind, name),
            missing=lacks(name, "openssl"),
        )
        for name in PROXIES
    ),
    Experiment("SIGTERM", faults.terminate, ends_service=True),
]

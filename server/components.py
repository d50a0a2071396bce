"""The components with the lifetime of the application, and their metrics."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from aiohttp import web

from middlewares.authentication import UseProof
from middlewares.authorization import is_authorized
from middlewares.rate_limit import AcquireRateLimit
from server import __version__
from server.admin_actions import ActionChannel, write_waiting_actions
from server.auth.claims import make_claim_rules, patient_role
from server.auth.jwks import make_jwks_provider
from server.auth.keys import KeyProvider, make_static_provider
from server.config import Settings
from server.config.settings import CallMonitorMode
from server.http_client import make_session
from server.observability.audit_log import AuditLog
from server.observability.log_records import standard_output
from server.observability.measurements import EventCount, LoopLag, RecentMaximum
from server.policies.call_limits import CallLimits
from server.policies.deployments import keep_registered
from server.policies.pause import SessionPause
from server.policies.rate_limits import InMemoryRateLimiter, RedisLimit
from server.policies.replays import InMemoryReplays, RedisReplays
from server.policies.revocations import RevocationList, make_patient_names
from server.redis.client import RedisClient, RedisState
from server.serving.connection_limits import Connections
from server.serving.run import GRACE_SHARES
from server.vapi.assistants import names_by_id
from server.vapi.health import VapiHealth, VapiState

if TYPE_CHECKING:
    from server.calls.monitor import CallMonitor
    from server.observability.metrics import Metrics

_RESTART_SECONDS: Final = 1.0

log = logging.getLogger(__name__)

Run = Callable[[], Awaitable[None]]


class Components:
    """Everything behind the middlewares that has state or calls another service."""

    def __init__(self, settings: Settings, actions: ActionChannel | None = None) -> None:
        self.audit_log = AuditLog(standard_output())
        self._actions = actions
        self._audit_seconds = settings.shutdown_grace_seconds * GRACE_SHARES.clean_up
        self._make_session = partial(make_session, settings)
        self._keep_registered = partial(keep_registered, settings)
        self.limiter_failures = EventCount()
        self.revocation_failures = EventCount()
        self.rules = make_claim_rules(settings)
        self.vapi = VapiHealth(
            base_url=settings.vapi_base_url,
            api_key=settings.vapi_api_key,
            names=names_by_id(settings),
            interval=settings.vapi_check_seconds,
            timeout=settings.vapi_timeout_seconds,
        )
        self.jwks = make_jwks_provider(settings) if settings.jwt_jwks_url else None
        self.keys: KeyProvider = self.jwks or make_static_provider(settings)
        self.names = make_patient_names(settings)
        self.pause = SessionPause(always=settings.sessions_paused)
        can_pause = settings.sessions_paused or settings.redis_url
        self.ensure_not_paused = self.pause.ensure_not_paused if can_pause else None
        self.redis = RedisClient(settings.redis_url) if settings.redis_url else None
        self.revocations = self._revocations(settings, self.redis) if self.redis else None
        self.acquire_rate_limit = self._rate_limiter(settings)
        self.use_proof = self._replays(settings)
        has_monitor = settings.call_monitor != CallMonitorMode.OFF
        self.call_limits = CallLimits(self.names) if has_monitor else None
        self.check_call_limit = self.call_limits.check if self.call_limits else None
        self.call_monitor = self._monitor(settings, self.call_limits) if self.call_limits else None

    def _monitor(self, settings: Settings, limits: CallLimits) -> "CallMonitor":
        from server.calls.monitor import CallMonitor

        return CallMonitor(
            settings,
            limits=limits,
            write=self.audit_log.write_event,
            redis=self.redis,
            revocations=self.revocations,
        )

    def _revocations(self, settings: Settings, redis: RedisClient) -> RevocationList:
        limit = None
        if settings.rate_limit != "off":
            limit = RedisLimit(redis, settings.rate_limit, on_failure=self.limiter_failures)
        role = patient_role(settings)
        scopes = frozenset(settings.jwt_required_scope.split())
        return RevocationList(
            redis,
            seconds=settings.session_budget_seconds / 2,
            serve_without=settings.redis_failure == "serve",
            record_pause=self.pause.record,
            on_failure=self.revocation_failures,
            names=self.names,
            limit=limit,
            is_counted=lambda principal: is_authorized(principal, role, scopes),
        )

    def _rate_limiter(self, settings: Settings) -> AcquireRateLimit | None:
        """Count in the process: without Redis, and what Redis does not count."""
        return (
            None
            if settings.rate_limit == "off"
            else InMemoryRateLimiter(settings.rate_limit).acquire
        )

    def _replays(self, settings: Settings) -> UseProof:
        in_memory = InMemoryReplays().use
        if self.redis is None:
            return in_memory
        return RedisReplays(
            self.redis,
            seconds=settings.session_budget_seconds / 2,
            fallback=in_memory if settings.redis_failure == "serve" else None,
        ).use

    def states(self) -> dict[str, str]:
        """Return the state of each component for `/readyz`."""
        redis = "off" if self.redis is None else self.redis.state
        return {
            "vapi": self.vapi.state,
            "keys": self.keys.state,
            "redis": redis,
            "audit": self.audit_log.state,
            "calls": "off" if self.call_monitor is None else self.call_monitor.state,
        }

    def has_started(self) -> bool:
        """Return whether the verification keys have been available once, and Vapi and Redis have
        not rejected our configuration from the beginning.
        """
        has_had_keys = self.jwks is None or self.jwks.age is not None
        redis_accepted = self.redis is None or self.redis.has_started
        return has_had_keys and self.vapi.has_verdict and redis_accepted

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the background tasks of all components and write the audit log."""
        self.audit_log.start()
        self.pause.log_setting()
        try:
            async with self._tasks():
                yield
        finally:
            await self.audit_log.stop(self._audit_seconds)

    @asynccontextmanager
    async def _tasks(self) -> AsyncIterator[None]:
        """Run the background tasks with one shared client session."""
        async with self._make_session() as session:
            runs: list[Run] = [partial(self.vapi.run, session)]
            if self.jwks is not None:
                runs.append(partial(self.jwks.run, session))
            if self.redis is not None:
                runs.append(self.redis.run)
                runs.append(partial(write_waiting_actions, self.redis.execute, self.audit_log))
                runs.append(partial(self._keep_registered, self.redis.execute))
            if self._actions is not None:
                runs.append(partial(self._actions.run, self.audit_log))
            if self.call_monitor is not None:
                runs.append(self.call_monitor.run)
            tasks = [asyncio.create_task(supervise(run)) for run in runs]
            try:
                yield
            finally:
                for task in reversed(tasks):  # the monitor gives its lease in Redis back
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)


async def supervise(run: Run) -> None:
    """Run until `run` returns; log an unexpected error and restart after a second."""
    while True:
        try:
            return await run()
        except Exception:
            log.exception("a background task failed and will be restarted")
            await asyncio.sleep(_RESTART_SECONDS)


def add_component_metrics(metrics: "Metrics", components: Components) -> None:
    """Add a metric for each number that the components keep; `docs/operations.md` lists them.

    When processes have different values, the worst is reported.
    """
    _add_audit_metrics(metrics, components.audit_log)
    _add_upstream_metrics(metrics, components)
    paused = "1 while sessions are paused, else 0."
    metrics.add_gauge("paused", paused, components.pause.is_paused, across="livemax")
    keys = components.keys
    metrics.add_numbers(
        "keys",
        "Verification keys: used, and published ones that are ignored.",
        "state",
        lambda: {"used": keys.size, "ignored": len(keys.unused)},
    )
    if components.call_monitor is not None:
        components.call_monitor.add_metrics(metrics)


def _add_audit_metrics(metrics: "Metrics", audit_log: AuditLog) -> None:
    lost = "Audit lines that were not written and will not be."
    metrics.add_counter("audit_lines_lost", lost, lambda: audit_log.lost_lines)
    dropped = "Audit lines of refusals that were dropped because half of the queue was in use."
    metrics.add_counter("audit_refusals_dropped", dropped, lambda: audit_log.dropped_refusals)
    waiting = "Audit lines that wait to be written."
    metrics.add_gauge(
        "audit_lines_waiting", waiting, lambda: audit_log.waiting_lines, across="livesum"
    )
    up = "1 while audit lines are written, else 0."
    metrics.add_gauge("audit_up", up, lambda: audit_log.state == "up", across="livemin")


def _add_upstream_metrics(metrics: "Metrics", components: Components) -> None:
    metrics.add_counter(
        "limiter_failures",
        "Requests counted in the process because Redis did not answer.",
        lambda: components.limiter_failures.total,
    )
    metrics.add_counter(
        "revocation_failures",
        "Requests whose revocation could not be checked.",
        lambda: components.revocation_failures.total,
    )
    metrics.add_numbers(
        "vapi_state",
        "1 for the state of Vapi.",
        "state",
        lambda: {state: state == components.vapi.state for state in VapiState},
    )
    if (jwks := components.jwks) is not None:
        age = "Seconds since the keys were last fetched; +Inf without keys."
        read_age = lambda: inf if jwks.age is None else jwks.age  # noqa: E731  short
        metrics.add_gauge("jwks_age_seconds", age, read_age, across="livemax")
    if (redis := components.redis) is not None:
        up, read_up = "1 while Redis is up, else 0.", lambda: redis.state is RedisState.UP
        metrics.add_gauge("redis_up", up, read_up, across="livemin")


def add_connection_metrics(metrics: "Metrics", limit: Connections) -> None:
    """Add the number of open connections, its maximum, those that it closed, and the wait."""
    metrics.add_gauge("open_connections", "Open connections.", lambda: limit.open, across="livesum")
    metrics.add_gauge(
        "max_connections",
        "The maximum of open connections.",
        lambda: limit.maximum,
        across="livesum",
    )
    metrics.add_counter(
        "refused_connections",
        "New connections closed at once because the maximum was reached.",
        lambda: limit.refused,
    )
    waits = RecentMaximum()
    limit.on_wait = waits.record
    metrics.add_gauge(
        "accept_wait_seconds",
        "From the end of a client's TCP handshake until the service takes the connection: "
        "the maximum of the last 15 to 30 seconds.",
        waits.read,
        across="livemax",
    )
    metrics.add_counter(
        "evicted_connections",
        "Connections without a request that were closed to make room for new ones.",
        lambda: limit.evicted,
    )


def add_process_metrics(metrics: "Metrics", app: web.Application) -> None:
    """Add the version, and the lag of the event loop, which is measured while `app` runs."""
    metrics.add_build_info(__version__)
    lag = LoopLag()
    app.cleanup_ctx.append(lag.lifespan)
    metrics.add_gauge(
        "event_loop_lag_seconds",
        "How much later than planned a timer ran: the maximum of the last 15 to 30 seconds.",
        lag.read,
        across="livemax",
    )

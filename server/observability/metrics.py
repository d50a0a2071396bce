"""What `/metrics` tells: counts, latencies and states, and nothing that names a patient."""

import os
from collections.abc import Iterable
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from server.config import Settings
from server.observability.multiprocess import METRICS_DIRECTORY

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 3, 5)


class Metrics:
    """The service's metrics, in a registry of their own: a host application may have others.

    With PROMETHEUS_MULTIPROC_DIR set, as gunicorn's configuration sets it, they are those of all
    processes together, each of which is to `note` its states from time to time. Of a state that
    the processes see differently the worst is told, or in Vapi's case every one that is seen.
    """

    def __init__(
        self, *, vapi_states: Iterable[str], jwks: bool = False, redis: bool = False
    ) -> None:
        self._registry = CollectorRegistry()
        self._vapi_states = tuple(vapi_states)
        self.are_shared = METRICS_DIRECTORY in os.environ
        self._requests = Counter(
            "vapi_sessions_requests", "Answers.", ["status", "code"], registry=self._registry
        )
        self._seconds = Histogram(
            "vapi_sessions_request_seconds",
            "From the request's headers to its answer.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._limiter_failures = self._counter(
            "limiter_failures", "Requests counted in the process because Redis did not answer."
        )
        self._revocation_failures = self._counter(
            "revocation_failures", "Requests whose revocation could not be checked."
        )
        self._vapi = self._gauge("vapi_state", "1 for the state that Vapi is in.", "state")
        age = "Since the keys were last fetched; +Inf while there are none."
        self._jwks_age = self._gauge("jwks_age_seconds", age) if jwks else None
        up = "1 while Redis answers, else 0."
        self._redis_up = self._gauge("redis_up", up, worst="livemin") if redis else None
        if not self.are_shared:  # memory, processor time, open files: of one process only
            ProcessCollector(registry=self._registry)

    def _counter(self, name: str, documentation: str) -> Counter:
        return Counter(f"vapi_sessions_{name}", documentation, registry=self._registry)

    def _gauge(
        self,
        name: str,
        documentation: str,
        *labels: str,
        worst: Literal["livemax", "livemin"] = "livemax",
    ) -> Gauge:
        name = f"vapi_sessions_{name}"
        return Gauge(name, documentation, labels, registry=self._registry, multiprocess_mode=worst)

    def observe(self, status: int, code: str | None, seconds: float) -> None:
        """Count an answer: its status, its error's code or None, its seconds."""
        self._requests.labels(str(status), code or "").inc()
        self._seconds.observe(seconds)

    def record_limiter_failure(self) -> None:
        """Count a request that the shared limit could not be asked for."""
        self._limiter_failures.inc()

    def record_revocation_failure(self) -> None:
        """Count a request that the revocation list could not be asked for."""
        self._revocation_failures.inc()

    def record_states(
        self, vapi: str, jwks_age: float | None = None, *, redis_up: bool = True
    ) -> None:
        """Take down the states that are looked up rather than counted."""
        for state in self._vapi_states:
            self._vapi.labels(state).set(state == vapi)
        if self._jwks_age is not None:
            self._jwks_age.set(float("inf") if jwks_age is None else jwks_age)
        if self._redis_up is not None:
            self._redis_up.set(redis_up)

    def render(self) -> bytes:
        """Write everything in Prometheus's text format."""
        if not self.are_shared:
            return generate_latest(self._registry)
        everywhere = CollectorRegistry()
        MultiProcessCollector(everywhere)  # type: ignore[no-untyped-call]  # prometheus_client's
        return generate_latest(everywhere)


def make_metrics(settings: Settings, vapi_states: Iterable[str]) -> Metrics | None:
    """Return the metrics that the settings ask for, or None when they are disabled."""
    if not settings.metrics_enabled:
        return None
    return Metrics(
        vapi_states=vapi_states,
        jwks=bool(settings.jwt_jwks_url),
        redis=bool(settings.redis_url),
    )

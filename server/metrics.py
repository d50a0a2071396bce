"""What `/metrics` tells: counts, latencies and states, and nothing that names a patient."""

import os
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from server.vapi import VapiState

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 3, 5)


class Metrics:
    """The service's metrics, in a registry of their own: a host application may have others.

    With PROMETHEUS_MULTIPROC_DIR set, as gunicorn's configuration sets it, they are those of all
    processes together.
    """

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._requests = Counter(
            "vapi_sessions_requests", "Answers.", ["status", "code"], registry=registry
        )
        self._seconds = Histogram(
            "vapi_sessions_request_seconds",
            "From the request's headers to its answer.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._vapi = Gauge(
            "vapi_sessions_vapi_state",
            "1 for the state that Vapi is in.",
            ["state"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._jwks_age = Gauge(
            "vapi_sessions_jwks_age_seconds",
            "Since the keys were last fetched; NaN while there are none.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._limiter_failures = Counter(
            "vapi_sessions_limiter_failures",
            "Requests counted in the process because Redis did not answer.",
            registry=registry,
        )
        self._revocation_failures = Counter(
            "vapi_sessions_revocation_failures",
            "Requests whose revocation could not be checked.",
            registry=registry,
        )

    def observe(self, status: int, code: str | None, seconds: float) -> None:
        """Count an answer: its status, its error's code or None, its seconds."""
        self._requests.labels(str(status), code or "").inc()
        self._seconds.observe(seconds)

    def limiter_failed(self) -> None:
        """Count a request that the shared limit could not be asked for."""
        self._limiter_failures.inc()

    def revocation_failed(self) -> None:
        """Count a request that the revocation list could not be asked for."""
        self._revocation_failures.inc()

    def note(self, vapi: VapiState, jwks_age: float | None) -> None:
        """Take down the states that are looked up rather than counted."""
        for state in VapiState:
            self._vapi.labels(state).set(state is vapi)
        self._jwks_age.set(float("nan") if jwks_age is None else jwks_age)

    def render(self) -> bytes:
        """Write everything in Prometheus's text format."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        everywhere = CollectorRegistry()
        MultiProcessCollector(everywhere)  # type: ignore[no-untyped-call]  # prometheus_client's
        return generate_latest(everywhere)

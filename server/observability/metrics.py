"""The metrics of `/metrics`: requests, and the numbers that components report. No patient ids."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from middlewares.headers import ResponseFacts
from server.observability.multiprocess import METRICS_DIRECTORY


def render_shared_metrics() -> bytes:
    """Return the metrics of all processes in the Prometheus text format."""
    registry = CollectorRegistry()
    registry.register(_SharedCollector(None))  # type: ignore[no-untyped-call]  # theirs
    return generate_latest(registry)


class _SharedCollector(MultiProcessCollector):
    """Reads the metrics of all processes, except the files that are being created or deleted."""

    def collect(self) -> Iterable[Metric]:
        """Return the metrics; a file without content would be an error to the base class."""
        files = [str(path) for path in Path(self._path).glob("*.db") if _has_content(path)]
        metrics: Iterable[Metric] = self.merge(files)  # type: ignore[no-untyped-call]  # theirs
        return metrics


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


_PREFIX: Final = "vapi_sessions_"
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 3, 5)
_RECORD_SECONDS: Final = 1.0

Across = Literal["livemax", "livemin", "livesum"]
"""How a gauge of several processes becomes one: its maximum, its minimum or its sum."""

ReadNumber = Callable[[], float]


class Metrics:
    """The service's metrics, in a registry of their own: a host application may have others.

    Components do not depend on metrics. They keep plain numbers, and each metric has a function
    that reads one. With PROMETHEUS_MULTIPROC_DIR set, as `gunicorn.conf.py` does, the metrics are
    those of all processes; `lifespan` then records the numbers of this process every second.
    """

    def __init__(self, routes: Mapping[str | None, str] = MappingProxyType({})) -> None:
        """`routes` has the label of a route by its name; all others are `operations`."""
        self._routes = routes
        self._registry = CollectorRegistry()
        self._recorders: list[Callable[[], None]] = []
        self.are_shared = METRICS_DIRECTORY in os.environ
        self._requests = Counter(
            f"{_PREFIX}requests",
            "Responses.",
            ["route", "status", "code", "reason"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            f"{_PREFIX}request_seconds",
            "From the headers of a request to its response.",
            ["route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        if not self.are_shared:  # memory, processor time, open files: of a single process only
            ProcessCollector(registry=self._registry)

    def add_counter(self, name: str, documentation: str, read: ReadNumber) -> None:
        """Add a counter; `read` returns the total since the start of the process."""
        counter = Counter(_PREFIX + name, documentation, registry=self._registry)
        recorded = 0.0

        def record() -> None:
            nonlocal recorded
            total = read()
            counter.inc(total - recorded)
            recorded = total

        self._recorders.append(record)

    def add_counters(
        self, name: str, documentation: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        """Add a counter with a label; `read` returns the total for each value of the label."""
        counter = Counter(_PREFIX + name, documentation, [label], registry=self._registry)
        recorded: dict[str, float] = {}

        def record() -> None:
            for value, total in read().items():
                counter.labels(value).inc(total - recorded.get(value, 0))
                recorded[value] = total

        self._recorders.append(record)

    def add_numbers(
        self, name: str, documentation: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        """Add a gauge with a label; `read` returns the number for each value of the label.

        When processes differ, the maximum is reported. A value must not disappear from the mapping.
        """
        gauge = self._gauge(name, documentation, "livemax", label)

        def record() -> None:
            for value, number in read().items():
                gauge.labels(value).set(number)

        self._recorders.append(record)

    def add_gauge(self, name: str, documentation: str, read: ReadNumber, *, across: Across) -> None:
        """Add a gauge; `read` returns its current value, `across` combines several processes."""
        gauge = self._gauge(name, documentation, across)
        self._recorders.append(lambda: gauge.set(read()))

    def _gauge(self, name: str, documentation: str, across: Across, *labels: str) -> Gauge:
        return Gauge(
            _PREFIX + name,
            documentation,
            labels,
            registry=self._registry,
            multiprocess_mode=across,
        )

    def observe(self, response: ResponseFacts) -> None:
        """Count a response, and record its duration."""
        # A path that aiohttp cannot look up, such as `*`, has no route either.
        unnamed = "other" if response.status == 404 else "operations"
        route = self._routes.get(response.route, unnamed)
        code, reason = response.code or "", response.reason or ""
        self._requests.labels(route, str(response.status), code, reason).inc()
        self._seconds.labels(route).observe(response.seconds)

    def add_build_info(self, version: str) -> None:
        """Add a gauge that is always 1, with the version as a label."""
        help_ = "Always 1; the label has the version of the service."
        self._gauge("build_info", help_, "livemax", "version").labels(version).set(1)

    def record(self) -> None:
        """Read the numbers of all components."""
        for record in self._recorders:
            record()

    def render(self) -> bytes:
        """Return the current metrics in the Prometheus text format."""
        self.record()
        if not self.are_shared:
            return generate_latest(self._registry)
        return render_shared_metrics()

    async def lifespan(self, _: web.Application) -> AsyncIterator[None]:
        """Record every second, for other processes: a context for `Application.cleanup_ctx`."""
        recording = asyncio.create_task(self._keep_recording())
        yield
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)
        self.record()

    async def _keep_recording(self) -> None:
        while True:
            self.record()
            await asyncio.sleep(_RECORD_SECONDS)

"""The metrics of all processes that share a directory."""

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector


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

"""The metrics of the components: the one place that names them."""

from math import inf

from server.components import Components
from server.observability.metrics import Metrics
from server.redis.state import RedisState
from server.serving.connection_limit import ConnectionLimit
from server.vapi.health import VapiState


def add_component_metrics(metrics: Metrics, components: Components) -> None:
    """Add a metric for each number that the components keep; `docs/operations.md` lists them.

    When processes have different values, the worst is reported.
    """
    audit_log = components.audit_log
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
    paused = "1 while sessions are paused, else 0."
    metrics.add_gauge("paused", paused, components.pause.is_paused, across="livemax")
    metrics.add_state(
        "vapi_state", "1 for the state of Vapi.", VapiState, lambda: components.vapi.state
    )
    if (jwks := components.jwks) is not None:
        age = "Seconds since the keys were last fetched; +Inf without keys."
        read_age = lambda: inf if jwks.age is None else jwks.age  # noqa: E731  short
        metrics.add_gauge("jwks_age_seconds", age, read_age, across="livemax")
    if (redis := components.redis) is not None:
        up, read_up = "1 while Redis is up, else 0.", lambda: redis.state is RedisState.UP
        metrics.add_gauge("redis_up", up, read_up, across="livemin")


def add_connection_metrics(metrics: Metrics, limit: ConnectionLimit) -> None:
    """Add the number of open connections, its maximum, and the number of refused connections."""
    metrics.add_gauge("open_connections", "Open connections.", lambda: limit.open, across="livesum")
    metrics.add_gauge(
        "max_connections",
        "The maximum of open connections.",
        lambda: limit.maximum,
        across="livesum",
    )
    metrics.add_counter(
        "refused_connections",
        "Connections closed at once because the maximum was reached.",
        lambda: limit.refused,
    )

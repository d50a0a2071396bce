"""Instants as the service writes them."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Tells the time in seconds since the epoch."""


def rfc3339(seconds: float) -> str:
    """Write seconds since the epoch as a UTC instant (RFC 3339): `2026-01-31T09:30:00.000Z`."""
    instant = datetime.fromtimestamp(seconds, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")

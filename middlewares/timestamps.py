"""Timestamps in the format of the API and of the logs (RFC 3339, UTC)."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

Clock = Callable[[], float]
"""Returns the current time in seconds since the epoch."""


def rfc3339(seconds: float) -> str:
    """Format seconds since the epoch as a UTC timestamp: `2026-01-31T09:30:00.000Z`."""
    return _format(int(seconds * 1000))


@lru_cache(maxsize=4)
def _format(milliseconds: int) -> str:
    """Format a timestamp; requests of the same millisecond share the result."""
    whole = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"

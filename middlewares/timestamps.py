"""Timestamps: RFC 3339 in the API and in the logs, the format of RFC 9110 in the `Date` field."""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate
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


@lru_cache(maxsize=1)
def http_date(seconds: int) -> str:
    """Format whole seconds since the epoch: `Sat, 31 Jan 2026 09:30:00 GMT` (RFC 9110, 5.6.7)."""
    return formatdate(seconds, usegmt=True)

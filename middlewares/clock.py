"""Instants as the service writes them."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

Clock = Callable[[], float]
"""Tells the time in seconds since the epoch."""


def rfc3339(seconds: float) -> str:
    """Write seconds since the epoch as a UTC instant (RFC 3339): `2026-01-31T09:30:00.000Z`."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{_whole_second(whole)}.{milliseconds:03d}Z"


@lru_cache(maxsize=4)
def _whole_second(seconds: int) -> str:
    """Write the part that many requests share."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")

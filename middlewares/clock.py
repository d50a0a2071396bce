"""Instants as the service writes them."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

Clock = Callable[[], float]
"""Tells the time in seconds since the epoch."""


def rfc3339(seconds: float) -> str:
    """Write seconds since the epoch as a UTC instant (RFC 3339): `2026-01-31T09:30:00.000Z`."""
    return _instant(int(seconds * 1000))


@lru_cache(maxsize=4)
def _instant(milliseconds: int) -> str:
    """Write it: what comes in the same millisecond need not be written anew."""
    whole = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"

"""Exponential backoff with jitter, for background tasks that retry."""

from random import uniform
from typing import Final

_FIRST_SECONDS: Final = 0.5
_MAX_DOUBLINGS: Final = 16
"""Beyond it the longest delay of every caller is reached; it keeps the power finite."""


def retry_delay(failures: int, *, longest: float) -> float:
    """Return the seconds to wait after this many failures in a row, from 1: at most `longest`.

    The delay doubles with each failure. Up to a quarter is taken off at random, so that processes
    that saw the same outage do not retry in step.
    """
    delay = _FIRST_SECONDS * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
    return min(delay, longest) * uniform(0.75, 1)  # noqa: S311  not for cryptography

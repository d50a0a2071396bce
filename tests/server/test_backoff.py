"""Delays between retries."""

from itertools import pairwise

import pytest

from server.http_client import retry_delay


@pytest.mark.parametrize(
    ("failures", "longest", "most"),
    [
        (1, 10, 0.5),
        (2, 10, 1),
        (5, 10, 8),
        (6, 10, 10),
        (7, 30, 30),
        (10_000, 30, 30),
        (1, 0.1, 0.1),
    ],
)
def test_delay_doubles_up_to_the_longest(failures: int, longest: float, most: float) -> None:
    delays = [retry_delay(failures, longest=longest) for _ in range(200)]
    assert all(0.75 * most <= delay <= most for delay in delays)


def test_delays_of_two_processes_differ() -> None:
    delays = [retry_delay(4, longest=10) for _ in range(200)]
    assert all(first != second for first, second in pairwise(delays))
    assert max(delays) - min(delays) > 0.5  # of 1 second; a smaller range has odds under 1e-50

"""Counting in the process: windows that end, and memory that is bounded."""

import pytest

from server.redis.rate_limiter import MAX_WINDOWS, InMemoryRateLimiter


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Give a clock."""
    return Clock()


def limit(rate: str, clock: Clock) -> InMemoryRateLimiter:
    """Make a limit with room for three windows."""
    return InMemoryRateLimiter(rate, clock=clock, max_windows=3)


async def test_so_many_are_let_through_and_the_next_is_told_how_long_to_wait(clock: Clock) -> None:
    hit = limit("2/minute", clock).acquire
    assert [await hit("a"), await hit("a")] == [None, None]
    clock.now += 20
    assert await hit("a") == 40
    assert await hit("b") is None


async def test_a_window_ends_by_the_clock_and_the_next_begins_anew(clock: Clock) -> None:
    hit = limit("1/second", clock).acquire
    assert await hit("a") is None
    clock.now += 0.999
    assert await hit("a") is not None
    clock.now += 0.001
    assert await hit("a") is None
    assert await hit("a") == 1


async def test_asking_on_does_not_make_the_wait_longer(clock: Clock) -> None:
    hit = limit("1/hour", clock).acquire
    await hit("a")
    clock.now += 3599
    assert [await hit("a") for _ in range(100)] == [1] * 100


@pytest.mark.parametrize(
    ("rate", "seconds"), [("1/second", 1), ("1/minute", 60), ("1/hour", 3600), ("1/day", 86400)]
)
async def test_every_unit_of_the_setting_is_understood(
    clock: Clock, rate: str, seconds: int
) -> None:
    hit = limit(rate, clock).acquire
    assert [await hit("a"), await hit("a")] == [None, seconds]


async def test_what_has_ended_takes_no_memory(clock: Clock) -> None:
    counted = limit("1/second", clock)
    for name in ("a", "b", "c"):
        await counted.acquire(name)
    clock.now += 1
    await counted.acquire("d")
    assert list(counted._windows) == ["d"]


async def test_a_patient_who_comes_back_is_the_last_to_be_forgotten(clock: Clock) -> None:
    counted = limit("1/minute", clock)
    await counted.acquire("a")
    clock.now += 30
    await counted.acquire("b")
    clock.now += 30
    await counted.acquire("a")
    assert list(counted._windows) == ["b", "a"]


async def test_the_oldest_window_makes_room_when_there_are_too_many(clock: Clock) -> None:
    counted = limit("1/minute", clock)
    for number in range(100):
        await counted.acquire(str(number))
        assert len(counted._windows) <= 3
    assert await counted.acquire("99") == 60
    assert await counted.acquire("0") is None


async def test_by_default_the_memory_is_bounded_too() -> None:
    counted = InMemoryRateLimiter("1/hour")
    for number in range(MAX_WINDOWS + 1000):
        await counted.acquire(str(number))
    assert len(counted._windows) == MAX_WINDOWS

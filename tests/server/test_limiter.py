"""Counting in the process: windows that end, and memory that is bounded."""

import pytest

from server.limiter import MAX_WINDOWS, ProcessStorage, make_hit, unlimited


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


@pytest.fixture
def storage(clock: Clock) -> ProcessStorage:
    """Give a store of at most three windows."""
    return ProcessStorage(clock=clock, max_windows=3)


async def test_so_many_are_let_through_and_the_next_is_told_how_long_to_wait(
    storage: ProcessStorage, clock: Clock
) -> None:
    hit = make_hit("2/minute", storage, clock)
    assert [await hit("a"), await hit("a")] == [None, None]
    clock.now += 20
    assert await hit("a") == 40
    assert await hit("b") is None


async def test_a_window_ends_by_the_clock_and_the_next_begins_anew(
    storage: ProcessStorage, clock: Clock
) -> None:
    hit = make_hit("1/second", storage, clock)
    assert await hit("a") is None
    clock.now += 0.999
    assert await hit("a") is not None
    clock.now += 0.001
    assert await hit("a") is None
    assert await hit("a") == 1


async def test_asking_on_does_not_make_the_wait_longer(
    storage: ProcessStorage, clock: Clock
) -> None:
    hit = make_hit("1/hour", storage, clock)
    await hit("a")
    clock.now += 3599
    assert [await hit("a") for _ in range(100)] == [1] * 100


@pytest.mark.parametrize(
    ("limit", "seconds"), [("1/second", 1), ("1/minute", 60), ("1/hour", 3600), ("1/day", 86400)]
)
async def test_every_unit_of_the_setting_is_understood(
    storage: ProcessStorage, clock: Clock, limit: str, seconds: int
) -> None:
    hit = make_hit(limit, storage, clock)
    assert [await hit("a"), await hit("a")] == [None, seconds]


async def test_what_has_ended_takes_no_memory(storage: ProcessStorage, clock: Clock) -> None:
    for name in ("a", "b", "c"):
        await storage.incr(name, 10)
    clock.now += 10
    await storage.incr("d", 10)
    assert list(storage._windows) == ["d"]


async def test_the_oldest_window_makes_room_when_there_are_too_many(
    storage: ProcessStorage,
) -> None:
    for number in range(100):
        await storage.incr(str(number), 10)
        assert len(storage._windows) <= 4
    assert await storage.get("99") == 1
    assert await storage.get("0") == 0


async def test_by_default_the_memory_is_bounded_too() -> None:
    storage = ProcessStorage()
    for number in range(MAX_WINDOWS + 1000):
        await storage.incr(str(number), 3600)
    assert len(storage._windows) <= MAX_WINDOWS + 1


async def test_it_keeps_the_promises_of_a_store(storage: ProcessStorage, clock: Clock) -> None:
    assert await storage.check()
    assert await storage.incr("a", 10) == 1
    assert await storage.incr("a", 10, amount=5) == 6
    assert await storage.get("a") == 6
    assert await storage.get_expiry("a") == clock.now + 10
    assert await storage.get_expiry("b") == clock.now
    clock.now += 10
    assert await storage.get("a") == 0
    await storage.incr("a", 10)
    await storage.clear("a")
    await storage.clear("a")
    assert await storage.get("a") == 0
    await storage.incr("b", 10)
    assert await storage.reset() == 1
    assert await storage.reset() == 0
    assert issubclass(storage.base_exceptions, Exception)


async def test_where_there_is_no_limit_nobody_waits() -> None:
    assert [await unlimited("a") for _ in range(1000)] == [None] * 1000

"""RFC 3339 timestamps."""

from time import tzset

import pytest

from middlewares.context import rfc3339


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_769_851_800, "2026-01-31T09:30:00.000Z"),
        (1_769_851_800.5, "2026-01-31T09:30:00.500Z"),
        (1_769_851_800.0625, "2026-01-31T09:30:00.062Z"),
        (1_769_851_859.9999, "2026-01-31T09:30:59.999Z"),
        (1_709_164_800, "2024-02-29T00:00:00.000Z"),
        (253_402_300_799, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_format_is_utc_with_milliseconds(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text


def test_time_zone_of_the_machine_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    tzset()
    try:
        assert rfc3339(2_000_000_000) == "2033-05-18T03:33:20.000Z"
    finally:
        monkeypatch.undo()
        tzset()


def test_milliseconds_of_the_same_second_differ() -> None:
    assert rfc3339(1000.25) == "1970-01-01T00:16:40.250Z"
    assert rfc3339(1000.75) == "1970-01-01T00:16:40.750Z"
    assert rfc3339(1001.25) == "1970-01-01T00:16:41.250Z"

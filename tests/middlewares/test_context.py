"""Timestamps by RFC 3339, and the trace id by the rules of W3C Trace Context."""

import re
from time import tzset

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.context import parse_trace_id, rfc3339

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_769_851_800.5, "2026-01-31T09:30:00.500Z"),
        (1_769_851_800.0625, "2026-01-31T09:30:00.062Z"),
        (1_769_851_859.9999, "2026-01-31T09:30:59.999Z"),
        (1_709_164_800, "2024-02-29T00:00:00.000Z"),
        (253_402_300_799, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_format_is_utc_with_milliseconds(
    monkeypatch: pytest.MonkeyPatch, seconds: float, text: str
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    tzset()
    try:
        assert rfc3339(seconds) == text
    finally:
        monkeypatch.undo()
        tzset()


@pytest.mark.parametrize("end", ["-01", "-01-what-the-future-will-be-like", "-01-", "-01-\xff a"])
def test_later_versions_may_have_more_fields(end: str) -> None:
    assert parse_trace_id([f"cc-{TRACE}-{SPAN}{end}"]) == TRACE
    assert parse_trace_id([f"00-{TRACE}-{SPAN}{end}"]) == (TRACE if end == "-01" else None)


@pytest.mark.parametrize(
    "values",
    [
        [VALID, VALID],
        [f"{VALID}, {VALID}"],
        [VALID.upper()],
        [f"{VALID}\n"],
        [f" {VALID}"],
        [f"{VALID}."],
        [f"01-{TRACE}-{SPAN}-01more"],
        [f"00-{TRACE[:-1]}٣-{SPAN}-01"],
        [TRACE],
    ],
)
def test_invalid_header(values: list[str]) -> None:
    assert parse_trace_id(values) is None


@given(
    st.sampled_from(["00", "01", "fe", "ff", "0", "000"]),
    st.sampled_from([TRACE, "0" * 32, TRACE[1:], f"{TRACE}0", TRACE.upper()]),
    st.sampled_from([SPAN, "0" * 16, SPAN[1:], f"{SPAN}0", SPAN.upper()]),
    st.sampled_from(["00", "ff", "0", "000", "0A"]),
)
def test_fields_are_hexadecimal_and_not_zero(
    version: str, trace: str, span: str, flags: str
) -> None:
    is_valid = (trace, span) == (TRACE, SPAN) and flags in {"00", "ff"}
    is_valid = is_valid and version in {"00", "01", "fe"}
    assert parse_trace_id([f"{version}-{trace}-{span}-{flags}"]) == (TRACE if is_valid else None)


@given(st.lists(st.text(max_size=80), max_size=2))
def test_a_trace_id_is_always_32_lower_case_hexadecimal_digits(values: list[str]) -> None:
    trace_id = parse_trace_id(values)
    assert trace_id is None or re.fullmatch("[0-9a-f]{32}", trace_id)

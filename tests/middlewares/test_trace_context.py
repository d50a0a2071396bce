"""The trace id from `traceparent`, by the rules of W3C Trace Context."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.context import parse_trace_id

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "value",
    [
        VALID,
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-ff",
        f"01-{TRACE}-{SPAN}-01",
        f"fe-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
        f"cc-{TRACE}-{SPAN}-01-",
        f"cc-{TRACE}-{SPAN}-01-\xff anything",
    ],
)
def test_valid_header(value: str) -> None:
    assert parse_trace_id([value]) == TRACE


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [VALID, VALID],
        [VALID, f"00-{'1' * 32}-{SPAN}-01"],
        [f"{VALID}, {VALID}"],
        [VALID.upper()],
        [f"00-{TRACE.upper()}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN.upper()}-01"],
        [f"00-{TRACE}-{SPAN}-0A"],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"FF-{TRACE}-{SPAN}-01"],
        [f"ff-{TRACE}-{SPAN}-01-more"],
        [f"0-{TRACE}-{SPAN}-01"],
        [f"000-{TRACE}-{SPAN}-01"],
        [f"0x-{TRACE}-{SPAN}-01"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"01-{'0' * 32}-{SPAN}-01"],
        [f"01-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE}-{SPAN}-01-more"],
        [f"00-{TRACE}-{SPAN}-01-"],
        [f"00-{TRACE}-{SPAN}-01."],
        [f"00-{TRACE}-{SPAN}-01\n"],
        [f" {VALID}"],
        [f"{VALID} "],
        [f"01-{TRACE}-{SPAN}-01more"],
        [f"01-{TRACE}-{SPAN}-0"],
        [f"00-{TRACE}-{SPAN}"],
        [f"00-{TRACE}-{SPAN}-"],
        [f"00-{TRACE[:-1]}-{SPAN}-01"],
        [f"00-{TRACE}0-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN[:-1]}-01"],
        [f"00-{TRACE}-{SPAN}0-01"],
        [f"00-{TRACE[:-1]}g-{SPAN}-01"],
        [f"00-{TRACE[:-1]}٣-{SPAN}-01"],
        [f"00_{TRACE}_{SPAN}_01"],
        [TRACE],
    ],
)
def test_invalid_header(values: list[str]) -> None:
    assert parse_trace_id(values) is None


@given(st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True))
def test_only_the_version_and_zeros_invalidate_a_well_formed_header(value: str) -> None:
    version, trace, span, _ = value.split("-")
    is_valid = version != "ff" and int(trace, 16) > 0 and int(span, 16) > 0
    assert parse_trace_id([value]) == (trace if is_valid else None)


@given(st.lists(st.text(max_size=80), max_size=2))
def test_a_trace_id_is_always_32_lower_case_hexadecimal_digits(values: list[str]) -> None:
    trace_id = parse_trace_id(values)
    assert trace_id is None or re.fullmatch("[0-9a-f]{32}", trace_id)

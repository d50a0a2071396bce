"""The trace id of a request (W3C Trace Context, https://www.w3.org/TR/trace-context/)."""

import re
from collections.abc import Sequence
from typing import Final

TRACEPARENT: Final = "traceparent"

_VERSION_00: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LATER_VERSION: Final = re.compile(
    r"(?!00|ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


def parse_trace_id(values: Sequence[str]) -> str | None:
    """Return the trace id, 32 hexadecimal digits, from the values of all `traceparent` headers.

    Returns None unless there is exactly one header and it is valid: version 00 has exactly four
    fields, later versions may append more, version ff and ids of zeros only are invalid.
    """
    if len(values) != 1:
        return None
    match = _VERSION_00.fullmatch(values[0]) or _LATER_VERSION.fullmatch(values[0])
    return match[1] if match else None

"""The format of a patient id, in tokens and in request bodies."""

import re
from typing import Final

PATIENT_ID_PATTERN: Final = "[A-Za-z0-9._:@|+/=-]{1,128}"
PATIENT_ID_FORMAT: Final = "1 to 128 characters out of A-Z a-z 0-9 ._:@|+/=-"

_PATIENT_ID: Final = re.compile(PATIENT_ID_PATTERN)
MAX_EXACT_INTEGER: Final = 2**53
"""Up to this value, a JSON number with a fraction represents a whole number exactly."""


def parse_patient_id(value: object) -> str | None:
    """Return a patient id as text, or None if the value is not a usable patient id.

    A whole number counts as its decimal digits.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT_INTEGER:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _PATIENT_ID.fullmatch(value) else None

"""What the stand-in for Vapi can be told to do with every request."""

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """One way to fail."""

    NONE = "none"
    STATUS = "status"
    HANG = "hang"
    TRICKLE_HEADERS = "trickle_headers"
    TRICKLE_BODY = "trickle_body"
    JUNK = "junk"
    HUGE = "huge"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What happens to each request; `status` is for `STATUS`, `pause` (seconds) for a trickle."""

    fault: Fault = Fault.NONE
    status: int = 503
    pause: float = 1.0


UP = Behaviour()

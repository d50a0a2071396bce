"""The faults that can be injected into the stand-in."""

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
    """A fault and its parameters: `status` for `STATUS`, `pause` in seconds for the trickles."""

    fault: Fault = Fault.NONE
    status: int = 503
    pause: float = 1.0


UP = Behaviour()

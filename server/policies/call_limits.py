"""The limit of calls: no session while a patient's minutes are used up, or a call cannot be ended.

The call monitor publishes what is decided here as plain data: a `CallState`.
"""

from collections.abc import Callable, Mapping
from math import ceil
from time import time
from types import MappingProxyType
from typing import Final

import msgspec

from middlewares.context import Clock
from middlewares.errors import ApiError, ErrorCode
from server.policies.revocations import PatientNames

_NOBODY: Final[Mapping[str, float]] = MappingProxyType({})

CheckCallLimit = Callable[[str], None]
"""Takes a patient id. Raises `ApiError` CALL_LIMIT_REACHED when no session may be started."""


class CallState(msgspec.Struct, frozen=True):
    """What sessions need to know of calls. Patients have the names of the keys in Redis.

    `used_up` has the patients whose minutes are used up, and when some are free again, in seconds
    since the epoch; `unendable` those with a call that should end and cannot be ended. With
    `stands_still` calls cannot be read: who was refused stays refused.
    """

    used_up: Mapping[str, float] = _NOBODY
    unendable: frozenset[str] = frozenset()
    stands_still: bool = False


class CallLimits:
    """Refuses sessions by the `state` that was published last; `clock` as in `Clock`."""

    def __init__(self, names: PatientNames, *, clock: Clock = time) -> None:
        self.state = CallState()
        self._names = names
        self._clock = clock

    def check(self, patient_id: str) -> None:
        """Refuse a patient by the present state: a `CheckCallLimit`."""
        state = self.state
        if not state.used_up and not state.unendable:
            return
        for name in (each.decode() for each in self._names.all(patient_id)):
            if name in state.unendable:
                details = "A call of this patient should end and cannot be ended"
                raise ApiError(ErrorCode.CALL_LIMIT_REACHED, details)
            wait = state.used_up.get(name, 0) - self._clock()
            if wait > 0 or (state.stands_still and name in state.used_up):
                details = "The minutes of the last 24 hours are used up"
                raise ApiError(
                    ErrorCode.CALL_LIMIT_REACHED, details, retry_after=max(1, ceil(wait))
                )

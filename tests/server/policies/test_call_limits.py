"""The limit of calls, by the state that the monitor publishes."""

import pytest

from middlewares.errors import ApiError
from server.policies.call_limits import CallLimits, CallState
from server.policies.revocations import CLEAR_NAMES, PatientNames

NOW = 1_000_000.0


def limits(state: CallState, names: PatientNames = CLEAR_NAMES) -> CallLimits:
    made = CallLimits(names, clock=lambda: NOW)
    made.state = state
    return made


def refusal(made: CallLimits, patient: str = "pt_1") -> tuple[str, str | None] | None:
    try:
        made.check(patient)
    except ApiError as error:
        return error.details, error.headers.get("Retry-After")
    return None


USED_UP = "The minutes of the last 24 hours are used up"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (CallState(), None),
        (CallState({"patient:pt_2": NOW + 60}), None),
        (CallState({"patient:pt_1": NOW + 60.1}), (USED_UP, "61")),
        (CallState({"patient:pt_1": NOW}), None),
        (CallState({"patient:pt_1": NOW - 5}, stands_still=True), (USED_UP, "1")),
        (
            CallState({"patient:pt_1": NOW + 60}, frozenset({"patient:pt_1"})),
            ("A call of this patient should end and cannot be ended", None),
        ),
    ],
)
def test_check(state: CallState, expected: tuple[str, str | None] | None) -> None:
    assert refusal(limits(state)) == expected


def test_every_name_of_a_patient_counts() -> None:
    names, previous = PatientNames(b"n" * 32, b"p" * 32), PatientNames(b"p" * 32)
    state = CallState({previous.current("pt_1").decode(): NOW + 60})
    assert refusal(limits(state, names)) == (USED_UP, "60")
    assert refusal(limits(state, names), "pt_2") is None

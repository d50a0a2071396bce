"""The check of `patientContext`; tests/test_contract.py covers the handler."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.errors import ApiError, ErrorCode
from server.api.start_session import check_patient_context


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"patientcontext": None},
        {"patientContext": {"id": "pt_1"}},
        {"patientContext": {"id": "pt_1", "name": None}, "more": []},
    ],
)
def test_matching_or_absent_context_passes(body: dict[str, object]) -> None:
    check_patient_context(body, "pt_1")


@pytest.mark.parametrize("claimed", ["pt_2", "PT_1", "pt_10", "pt_", "pt_1.0"])
def test_other_patient_is_a_mismatch(claimed: str) -> None:
    with pytest.raises(ApiError) as caught:
        check_patient_context({"patientContext": {"id": claimed}}, "pt_1")
    assert caught.value.code is ErrorCode.PATIENT_MISMATCH
    assert caught.value.details == "patientContext.id is not the patient of the token"


@given(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.lists(st.text())
    | st.dictionaries(st.sampled_from(["id", "x"]), st.none() | st.text() | st.integers())
)
def test_any_other_context_is_rejected(context: object) -> None:
    with pytest.raises(ApiError) as caught:
        check_patient_context({"patientContext": context}, "the patient of the token")
    assert caught.value.code in {"INVALID_PATIENT_CONTEXT", "PATIENT_MISMATCH"}

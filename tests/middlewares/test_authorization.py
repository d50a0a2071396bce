"""Authorization: role, scope and patient id."""

import json

import pytest

from middlewares.authorization import authorization
from middlewares.error_handler import error_handler
from middlewares.request_context import PRINCIPAL
from tests.middlewares.support import PATIENT, Alone, patient_with, say


def test_empty_role_is_an_error() -> None:
    with pytest.raises(ValueError, match="role must not be empty"):
        authorization(role="", id_claim="id")


@pytest.mark.parametrize(
    "roles", [{"patient"}, {"patient", "admin"}, {"", "patient"}], ids=lambda roles: str(len(roles))
)
async def test_patient_role_passes(alone: Alone, roles: set[str]) -> None:
    caller = patient_with(roles=frozenset(roles))
    client = await alone(
        error_handler(), authorization(role="patient", id_claim="id"), given={PRINCIPAL: caller}
    )
    heard = await say(client)
    assert (heard.status, heard.body) == (200, b"hello")


@pytest.mark.parametrize(
    "roles", [set(), {"doctor"}, {"Patient"}, {"patients"}, {"pat", "ient"}, {""}, {"patient "}]
)
async def test_other_roles_are_forbidden(alone: Alone, roles: set[str]) -> None:
    caller = patient_with(roles=frozenset(roles))
    client = await alone(
        error_handler(), authorization(role="patient", id_claim="id"), given={PRINCIPAL: caller}
    )
    heard = await say(client)
    error = json.loads(heard.body)["error"]
    assert (heard.status, error["code"]) == (403, "FORBIDDEN")
    assert error["details"] == "Only patients can access voice assistant"


async def test_missing_principal_is_forbidden(alone: Alone) -> None:
    heard = await say(await alone(error_handler(), authorization(role="patient", id_claim="id")))
    assert (heard.status, json.loads(heard.body)["error"]["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("required", "granted", "passes"),
    [
        ("", set(), True),
        ("   ", set(), True),
        ("voice", {"voice"}, True),
        ("voice", {"voice", "more"}, True),
        ("voice start", {"start", "voice"}, True),
        ("voice", set(), False),
        ("voice", {"voices", "Voice", "voic"}, False),
        ("voice start", {"voice"}, False),
        ("voice start", {"voice start"}, False),
    ],
)
async def test_every_required_scope_must_be_granted(
    alone: Alone, required: str, granted: set[str], *, passes: bool
) -> None:
    link = authorization(role="patient", scope=required, id_claim="id")
    caller = patient_with(scopes=frozenset(granted))
    heard = await say(await alone(error_handler(), link, given={PRINCIPAL: caller}))
    if passes:
        assert heard.status == 200
    else:
        assert (heard.status, json.loads(heard.body)["error"]["code"]) == (
            403,
            "INSUFFICIENT_SCOPE",
        )
        assert b'WWW-Authenticate: Bearer realm="vapi-sessions", error="insufficient_scope"' in (
            heard.head
        )


async def test_unusable_patient_id_names_the_claim_without_its_value(
    alone: Alone,
) -> None:
    link = authorization(role="patient", id_claim="user.id")
    client = await alone(error_handler(), link, given={PRINCIPAL: patient_with(patient_id=None)})
    heard = await say(client)
    error = json.loads(heard.body)["error"]
    assert (heard.status, error["code"]) == (400, "INVALID_PATIENT_CONTEXT")
    assert "user.id" in error["details"]


@pytest.mark.parametrize(
    ("caller", "code"),
    [
        (patient_with(roles=frozenset(), patient_id=None), "FORBIDDEN"),
        (patient_with(patient_id=None), "INSUFFICIENT_SCOPE"),
        (patient_with(scopes=frozenset({"voice"}), patient_id=None), "INVALID_PATIENT_CONTEXT"),
        (PATIENT, "INSUFFICIENT_SCOPE"),
    ],
)
async def test_order_of_checks(alone: Alone, caller: object, code: str) -> None:
    link = authorization(role="patient", scope="voice", id_claim="id")
    heard = await say(await alone(error_handler(), link, given={PRINCIPAL: caller}))
    assert json.loads(heard.body)["error"]["code"] == code

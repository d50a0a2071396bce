"""Authorization: role, scope and patient id."""

import pytest

from middlewares.authorization import authorization
from middlewares.context import PRINCIPAL
from middlewares.errors import error_handler
from tests.middlewares.support import Alone, patient_with, send_raw


def test_empty_role_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^role must not be empty$"):
        authorization(role="", id_claim="id")


async def test_missing_principal_is_forbidden(alone: Alone) -> None:
    response = await send_raw(await alone(error_handler(), authorization(role=None, id_claim="id")))
    assert (response.status, response.code) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("required", "granted", "passes"),
    [
        ("   ", set(), True),
        ("voice", {"voice", "more"}, True),
        ("voice start", {"start", "voice"}, True),
        ("voice", {"voices", "Voice", "voic"}, False),
        ("voice start", {"voice"}, False),
        ("voice start", {"voice start"}, False),
    ],
)
async def test_every_required_scope_must_be_granted(
    alone: Alone, required: str, granted: set[str], *, passes: bool
) -> None:
    middleware = authorization(role="patient", scope=required, id_claim="id")
    caller = patient_with(scopes=frozenset(granted))
    response = await send_raw(await alone(error_handler(), middleware, given={PRINCIPAL: caller}))
    if passes:
        assert response.status == 200
    else:
        assert (response.status, response.code) == (403, "INSUFFICIENT_SCOPE")
        scopes = " ".join(sorted(required.split()))
        assert response.details == f"The token must grant the scope: {scopes}"
        challenge = 'Bearer realm="vapi-sessions", error="insufficient_scope"'
        assert response.headers["WWW-Authenticate"] == challenge


async def test_unusable_patient_id_names_the_claim(alone: Alone) -> None:
    middleware = authorization(role="patient", id_claim="user.id")
    client = await alone(
        error_handler(), middleware, given={PRINCIPAL: patient_with(patient_id=None)}
    )
    response = await send_raw(client)
    assert (response.status, response.code) == (400, "INVALID_PATIENT_CONTEXT")
    assert response.details == "The token has no usable patient id in the claim user.id"

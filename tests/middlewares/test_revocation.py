"""Revocation of tokens and patients."""

import json

from middlewares.context import PRINCIPAL, Access, Principal
from middlewares.errors import ApiError, ErrorCode, error_handler
from middlewares.revocation import revocation
from tests.middlewares.support import Alone, patient_with, send_raw


async def test_principal_is_looked_up_and_passes(alone: Alone) -> None:
    looked_up: list[Principal] = []

    async def check_access(principal: Principal) -> Access:
        looked_up.append(principal)
        return Access(False)

    caller = patient_with(patient_id="pt_7", token_id="t7")
    middleware = revocation(check_access=check_access)
    response = await send_raw(await alone(error_handler(), middleware, given={PRINCIPAL: caller}))
    assert (response.status, response.body) == (200, b"hello")
    assert looked_up == [caller]


async def test_revoked_principal_is_rejected(alone: Alone) -> None:
    async def check_access(_: Principal) -> Access:
        return Access(True)

    middleware = revocation(check_access=check_access)
    response = await send_raw(
        await alone(error_handler(), middleware, given={PRINCIPAL: patient_with()})
    )
    error = json.loads(response.body)["error"]
    assert (response.status, error["code"]) == (401, "AUTH_TOKEN_REVOKED")
    assert error["details"] == "Sign in again to get a new token"


async def test_unavailable_list_is_503(alone: Alone) -> None:
    async def check_access(_: Principal) -> Access:
        raise ApiError(ErrorCode.AUTH_UNAVAILABLE, "gone", retry_after=1)

    middleware = revocation(check_access=check_access)
    client = await alone(error_handler(), middleware, given={PRINCIPAL: patient_with()})
    async with client.post("/") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert "WWW-Authenticate" not in response.headers

"""Revocation of tokens and patients."""

import json

from middlewares.api_errors import ApiError, ErrorCode
from middlewares.error_handler import error_handler
from middlewares.request_context import PRINCIPAL, Principal
from middlewares.revocation import revocation
from tests.middlewares.support import Alone, patient_with, say


async def test_principal_is_looked_up_and_passes(alone: Alone) -> None:
    asked: list[Principal] = []

    async def is_revoked(principal: Principal) -> bool:
        asked.append(principal)
        return False

    caller = patient_with(patient_id="pt_7", token_id="t7")
    link = revocation(is_revoked=is_revoked)
    heard = await say(await alone(error_handler(), link, given={PRINCIPAL: caller}))
    assert (heard.status, heard.body) == (200, b"hello")
    assert asked == [caller]


async def test_revoked_principal_is_rejected(alone: Alone) -> None:
    async def is_revoked(_: Principal) -> bool:
        return True

    link = revocation(is_revoked=is_revoked)
    heard = await say(await alone(error_handler(), link, given={PRINCIPAL: patient_with()}))
    assert (heard.status, json.loads(heard.body)["error"]["code"]) == (401, "AUTH_TOKEN_REVOKED")
    assert b'error="invalid_token"' in heard.head
    assert b"hello" not in heard.body


async def test_unavailable_list_is_503(alone: Alone) -> None:
    async def is_revoked(_: Principal) -> bool:
        raise ApiError(ErrorCode.AUTH_UNAVAILABLE, "gone", retry_after=1)

    link = revocation(is_revoked=is_revoked)
    client = await alone(error_handler(), link, given={PRINCIPAL: patient_with()})
    async with client.post("/") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "WWW-Authenticate" not in answer.headers

"""Tokens and patients whose access was ended."""

import json

from middlewares.api_errors import ApiError, ErrorCode
from middlewares.error_handler import error_handler
from middlewares.request_context import PRINCIPAL, Principal
from middlewares.revocation import revocation
from tests.middlewares.support import Alone, patient_with, say


async def test_a_caller_on_no_list_passes_and_the_list_is_asked_about_them(alone: Alone) -> None:
    asked: list[Principal] = []

    async def is_revoked(principal: Principal) -> bool:
        asked.append(principal)
        return False

    caller = patient_with(patient_id="pt_7", token_id="t7")
    link = revocation(is_revoked=is_revoked)
    heard = await say(await alone(error_handler(), link, given={PRINCIPAL: caller}))
    assert (heard.status, heard.body) == (200, b"hello")
    assert asked == [caller]


async def test_a_caller_on_the_list_is_turned_away(alone: Alone) -> None:
    async def is_revoked(_: Principal) -> bool:
        return True

    link = revocation(is_revoked=is_revoked)
    heard = await say(await alone(error_handler(), link, given={PRINCIPAL: patient_with()}))
    assert (heard.status, json.loads(heard.body)["error"]["code"]) == (401, "AUTH_TOKEN_REVOKED")
    assert b'error="invalid_token"' in heard.head
    assert b"hello" not in heard.body


async def test_a_list_that_cannot_be_asked_logs_nobody_out(alone: Alone) -> None:
    async def is_revoked(_: Principal) -> bool:
        raise ApiError(ErrorCode.AUTH_UNAVAILABLE, "gone", retry_after=1)

    link = revocation(is_revoked=is_revoked)
    client = await alone(error_handler(), link, given={PRINCIPAL: patient_with()})
    async with client.post("/") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "WWW-Authenticate" not in answer.headers

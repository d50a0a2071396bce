"""The endpoint's promises, seen from outside: one test for each row that an app relies on."""

from tests.conftest import AuditLines
from tests.support import ASSISTANT_ID, PUBLIC_KEY, Service, sign


async def test_a_patient_gets_what_one_session_needs(
    service: Service, audit_lines: AuditLines
) -> None:
    answer = await service.start(sign())
    assert answer.status == 200
    assert answer.json["data"]["apiKey"] == PUBLIC_KEY
    assert answer.json["data"]["assistantId"] == ASSISTANT_ID
    assert answer.json["data"]["patientContext"]["id"] == "pt_1"
    assert [line["outcome"] for line in audit_lines()] == ["granted"]


async def test_without_a_token_nobody_gets_anything(service: Service) -> None:
    answer = await service.start()
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_MISSING")

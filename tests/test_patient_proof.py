"""The patient proof from outside: section 11 of what apps and tool servers may rely on."""

import json
from typing import Any

import jwt
import pytest

from rig.issuer import ISSUER, Key, issuing
from rig.service import ASSISTANT_ID, PUBLIC_KEY, Service, claims, sign
from tests import pems
from tests.conftest import AuditLines, Serve
from tests.pems import OTHER_P256, PROOF

PROOF_TYPES = [
    "patient-proof+jwt",
    "Patient-Proof+JWT",
    "application/patient-proof+jwt",
    "APPLICATION/PATIENT-PROOF+JWT",
]
OTHER_TYPES = ["JWT", "at+jwt", "application/at+jwt", "patient-proof", "x/patient-proof+jwt"]


def content(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


async def test_response_without_key_is_unchanged(service: Service) -> None:
    body = (await service.start(sign())).body.decode()
    validated_at = json.loads(body)["data"]["patientContext"]["validatedAt"]
    assert body == (
        f'{{"success":true,"data":{{"apiKey":"{PUBLIC_KEY}","credentialType":"public_key",'
        f'"expiresAt":null,"assistantId":"{ASSISTANT_ID}",'
        f'"patientContext":{{"id":"pt_1","validatedAt":"{validated_at}"}}}},'
        '"message":"Vapi configuration retrieved"}'
    )


async def test_with_key_the_response_has_one_more_field(serve: Serve) -> None:
    without, with_key = await serve(), await serve(**PROOF)
    before = (await without.start(sign())).json["data"]
    after = (await with_key.start(sign())).json["data"]
    assert list(after) == [*before, "patientProof"]


@pytest.mark.parametrize("credential", ["public_key", "session_token"])
async def test_each_request_gets_a_new_proof(
    serve: Serve, audit_lines: AuditLines, credential: str
) -> None:
    service = await serve(**PROOF, VAPI_CREDENTIAL=credential)
    sessions = [(await service.start(sign())).json["data"] for _ in range(20)]
    proofs = [content(session["patientProof"]) for session in sessions]
    ids = [proof["jti"] for proof in proofs]
    assert len(set(ids)) == 20
    assert {proof["sub"] for proof in proofs} == {"pt_1"}
    assert {session["credentialType"] for session in sessions} == {credential}
    assert [line["proof_id"] for line in audit_lines()] == ids


async def test_the_proof_names_the_patient_of_the_token(serve: Serve) -> None:
    service = await serve(**PROOF)
    for claimed, patient in [("pt_2", "pt_2"), (7, "7"), (7.0, "7")]:
        answer = await service.start(
            sign(claims(id=claimed)), json={"patientContext": {"id": patient}}
        )
        assert content(answer.json["data"]["patientProof"])["sub"] == patient


async def test_without_a_session_there_is_no_proof(serve: Serve, audit_lines: AuditLines) -> None:
    service = await serve(**PROOF, VAPI_CHECK_SECONDS="30", VAPI_BASE_URL="http://127.0.0.1:1")
    answers = [
        await service.start(),
        await service.start(sign(claims(type="nurse"))),
        await service.start(sign(), json={"patientContext": {"id": "pt_2"}}),
        await service.start(sign()),
    ]
    assert [answer.status for answer in answers] == [401, 403, 403, 503]
    assert all(b"patientProof" not in answer.body for answer in answers)
    assert [line["proof_id"] for line in audit_lines()] == [None] * 4


async def test_the_proof_is_in_no_log(
    serve: Serve, audit_lines: AuditLines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    service = await serve(**PROOF)
    proof = (await service.start(sign())).json["data"]["patientProof"]
    [line] = audit_lines()
    assert line["proof_id"] == content(proof)["jti"]
    assert proof.rpartition(".")[2] not in json.dumps(line) + caplog.text


@pytest.mark.parametrize("typ", PROOF_TYPES)
async def test_a_proof_is_not_a_token_of_a_patient(serve: Serve, typ: str) -> None:
    public = pems.public(pems.P256)
    by_secret = await serve()
    by_key = await serve(JWT_SECRET="", JWT_PUBLIC_KEY=public, JWT_ALGORITHMS="ES256")
    signer = Key("ES256", pems.P256, "one")
    async with issuing(signer) as issuer:
        by_jwks = await serve(**issuer.variables)
        for service, token in [
            (by_secret, sign(typ=typ)),
            (await serve(JWT_REQUIRED_TYPE=typ), sign(typ=typ)),
            (by_key, sign(None, pems.P256, "ES256", typ=typ)),
            (by_jwks, signer.token(typ=typ)),
        ]:
            answer = await service.start(token)
            assert (answer.status, answer.code) == (401, "AUTH_TOKEN_INVALID")
            challenge = answer.response.headers["WWW-Authenticate"]
            assert challenge == 'Bearer realm="vapi-sessions", error="invalid_token"'


@pytest.mark.parametrize("typ", OTHER_TYPES)
async def test_tokens_of_other_types_are_accepted(service: Service, typ: str) -> None:
    assert (await service.start(sign(typ=typ))).status == 200


async def test_an_issued_proof_is_refused_as_a_token(serve: Serve) -> None:
    service = await serve(**PROOF)
    proof = (await service.start(sign())).json["data"]["patientProof"]
    assert (await service.start(proof)).code == "AUTH_TOKEN_INVALID"


async def test_a_key_of_proofs_in_the_jwks_is_ignored(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    mine, theirs = Key("ES256", pems.P256, "mine"), Key("ES256", OTHER_P256, "theirs")
    async with issuing(mine, theirs) as issuer:
        service = await serve(**{**issuer.variables, **PROOF, "JWKS_COOLDOWN_SECONDS": "0.01"})
        for _ in range(2):  # the second time after another fetch
            answer = await service.start(mine.token(claims(iss=ISSUER)))
            assert (answer.status, answer.code) == (401, "AUTH_TOKEN_INVALID")
        assert (await service.start(theirs.token(claims(iss=ISSUER)))).status == 200
        assert issuer.fetches > 1
    warnings = [each.message for each in caplog.records if "PROOF_KEY" in each.message]
    (warning,) = warnings
    assert warning.startswith("keys of JWT_JWKS_URL are not used: ")
    assert warning.endswith("(it is a key of PROOF_KEY)")


async def test_a_jwks_without_another_key_verifies_nothing(serve: Serve) -> None:
    mine = Key("ES256", pems.P256, "mine")
    async with issuing(mine) as issuer:
        service = await serve(**{**issuer.variables, **PROOF})
        answer = await service.start(mine.token(claims(iss=ISSUER)))
    assert (answer.status, answer.code) == (503, "AUTH_UNAVAILABLE")

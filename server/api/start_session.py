"""The handler of `POST …/vapi/start`."""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from middlewares.context import CONTEXT, PATIENT_ID, PRINCIPAL, Clock, rfc3339
from middlewares.errors import ApiError, ErrorCode
from middlewares.headers import json_response
from server.api.body import read_object
from server.auth.claims import PATIENT_ID_FORMAT, parse_patient_id
from server.policies.call_limits import CheckCallLimit
from server.policies.consent import CheckConsent
from server.proof import IssueProof, PatientProof
from server.vapi.assistants import ChooseAssistant
from server.vapi.credentials import Credential, IssueCredential


class PatientContext(msgspec.Struct, frozen=True, rename="camel"):
    """The patient of the session, and when (RFC 3339, UTC) the token was checked."""

    id: str
    validated_at: str


class SessionData(msgspec.Struct, frozen=True, rename="camel"):
    """What an app needs to start one voice session."""

    api_key: str
    credential_type: str
    expires_at: str | None
    assistant_id: str
    patient_context: PatientContext
    patient_proof: str | msgspec.UnsetType = msgspec.UNSET


class SessionResponse(msgspec.Struct, frozen=True):
    """The body of a success."""

    success: bool
    data: SessionData
    message: str


def make_start_handler(
    *,
    max_body_bytes: int,
    choose_assistant: ChooseAssistant,
    check_consent: CheckConsent,
    check_call_limit: CheckCallLimit | None,
    issue: IssueCredential,
    issue_proof: IssueProof | None,
    ensure_available: Callable[[str], Awaitable[None]],
    is_compressed: Callable[[web.Request], bool],
    clock: Clock,
) -> Handler:
    """Return the handler.

    `ensure_available` raises `ApiError` while no session of an assistant can be started;
    `is_compressed` returns whether the body of a request still has to be decompressed. Without
    `issue_proof` the response has no `patientProof`.
    """
    encode = msgspec.json.Encoder().encode

    async def start(request: web.Request) -> web.StreamResponse:
        body = await read_object(request, max_body_bytes, is_compressed=is_compressed(request))
        patient_id = request[PATIENT_ID]
        check_patient_context(body, patient_id)
        assistant_id = choose_assistant(body, request[PRINCIPAL])
        consent = check_consent(body, request[PRINCIPAL])
        if check_call_limit is not None:
            check_call_limit(patient_id)
        # The last suspension: what is available now is available to the audit middleware too.
        await ensure_available(assistant_id)
        credential = issue(assistant_id)
        context = request[CONTEXT]
        context.credential_type, context.assistant_id = credential.type, assistant_id
        context.consent = consent
        proof = issue_proof(patient_id, assistant_id, consent) if issue_proof else None
        context.proof_id = proof.id if proof else None
        patient = PatientContext(patient_id, rfc3339(clock()))
        return json_response(encode(_success(assistant_id, patient, credential, proof)))

    return start


def _success(
    assistant_id: str, patient: PatientContext, credential: Credential, proof: PatientProof | None
) -> SessionResponse:
    data = SessionData(
        api_key=credential.api_key,
        credential_type=credential.type,
        expires_at=credential.expires_at,
        assistant_id=assistant_id,
        patient_context=patient,
        patient_proof=proof.token if proof else msgspec.UNSET,
    )
    return SessionResponse(True, data, "Vapi configuration retrieved")


def check_patient_context(body: dict[str, object], patient_id: str) -> None:
    """Check that `patientContext` in the body, if present, is the patient of the token.

    Raises `ApiError`: INVALID_PATIENT_CONTEXT if it is malformed, PATIENT_MISMATCH if it is another
    patient.
    """
    if "patientContext" not in body:
        return
    context = body["patientContext"]
    if not isinstance(context, dict):
        raise _invalid("patientContext must be an object")
    claimed = context.get("id")
    if not isinstance(claimed, str):
        raise _invalid("patientContext.id must be a string")
    if parse_patient_id(claimed) is None:
        raise _invalid(f"patientContext.id must be {PATIENT_ID_FORMAT}")
    if claimed != patient_id:
        details = "patientContext.id is not the patient of the token"
        raise ApiError(ErrorCode.PATIENT_MISMATCH, details)


def _invalid(details: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_PATIENT_CONTEXT, details)

"""The handler of `POST …/vapi/start`."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from middlewares.context import (
    CONTEXT,
    PATIENT_ID,
    PRINCIPAL,
    Clock,
    RequestContext,
    rfc3339_milliseconds,
)
from middlewares.errors import ApiError, ErrorCode
from middlewares.headers import JsonResponse
from server.api.body import read_object
from server.auth.claims import PATIENT_ID_FORMAT, parse_patient_id
from server.policies.call_limits import CheckCallLimit
from server.policies.consent import CheckConsent
from server.proof import IssueProof, PatientProof
from server.vapi.assistants import ChooseAssistant
from server.vapi.credentials import Credential, IssueCredential

_ENCODER: Final = msgspec.json.Encoder()


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
    is_compressed: Callable[[web.Request], bool],
    default_assistant: str,
    choose_assistant: ChooseAssistant | None,
    check_consent: CheckConsent | None,
    check_call_limit: CheckCallLimit | None,
    ensure_not_paused: Callable[[], None] | None,
    ensure_available: Callable[[str], Awaitable[None]],
    ensure_writable: Callable[[], None],
    issue: IssueCredential,
    issue_proof: IssueProof | None,
    clock: Clock,
) -> Handler:
    """Return the handler. What is None is off and costs nothing.

    What begins with `ensure` raises `ApiError` while no session can be started or recorded.
    """

    async def start(request: web.Request) -> web.StreamResponse:
        body = await read_object(request, max_body_bytes, is_compressed)
        patient_id, principal = request[PATIENT_ID], request[PRINCIPAL]
        if "patientContext" in body:
            check_patient_context(body["patientContext"], patient_id)
        assistant_id = choose_assistant(body, principal) if choose_assistant else default_assistant
        consent = check_consent(body, principal) if check_consent else None
        if check_call_limit is not None:
            check_call_limit(patient_id)
        if ensure_not_paused is not None:
            ensure_not_paused()
        await ensure_available(assistant_id)
        ensure_writable()  # nothing suspends after it: the audit line has its place
        credential = issue(assistant_id)
        proof = issue_proof(patient_id, assistant_id, consent) if issue_proof else None
        patient = PatientContext(patient_id, rfc3339_milliseconds(int(clock() * 1000)))
        _record(request[CONTEXT], assistant_id, consent, credential, proof)
        return JsonResponse(_ENCODER.encode(_success(assistant_id, patient, credential, proof)))

    return start


def _record(
    context: RequestContext,
    assistant_id: str,
    consent: dict[str, str] | None,
    credential: Credential,
    proof: PatientProof | None,
) -> None:
    """Note what the audit line tells of a granted session."""
    context.assistant_id, context.credential_type = assistant_id, credential.type
    context.consent = consent
    context.proof_id = proof.id if proof else None


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


def check_patient_context(context: object, patient_id: str) -> None:
    """Check that `patientContext` of the body is the patient of the token.

    Raises `ApiError`: INVALID_PATIENT_CONTEXT if it is malformed, PATIENT_MISMATCH if it is another
    patient.
    """
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

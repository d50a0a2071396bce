"""The one handler: `POST …/vapi/start`, its request and its answer."""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.claims import PATIENT_ID_IN_WORDS, usable_id
from middlewares.clock import Clock, rfc3339
from middlewares.context import CREDENTIAL_TYPE, PATIENT_ID
from middlewares.errors import JSON
from server.body import read_object
from server.credentials import Credential, Issue


class PatientContext(msgspec.Struct, frozen=True, rename="camel"):
    """The patient that the session is for, and when (RFC 3339, UTC) their token was checked."""

    id: str
    validated_at: str


class SessionData(msgspec.Struct, frozen=True, rename="camel"):
    """All that an app needs to start one voice session, and nothing else."""

    api_key: str
    credential_type: str
    expires_at: str | None
    assistant_id: str
    patient_context: PatientContext


class SessionAnswer(msgspec.Struct, frozen=True):
    """The envelope of a success."""

    success: bool
    data: SessionData
    message: str


def make_start(
    *,
    assistant_id: str,
    max_body_bytes: int,
    issue: Issue,
    require_vapi: Callable[[], Awaitable[None]],
    clock: Clock,
) -> Handler:
    """Make the handler; `require_vapi` raises `ApiError` unless Vapi can be expected to answer."""
    encode = msgspec.json.Encoder().encode

    def answer(patient_id: str, credential: Credential) -> SessionAnswer:
        data = SessionData(
            api_key=credential.api_key,
            credential_type=credential.type,
            expires_at=credential.expires_at,
            assistant_id=assistant_id,
            patient_context=PatientContext(patient_id, rfc3339(clock())),
        )
        return SessionAnswer(True, data, "Vapi configuration retrieved")

    async def start(request: web.Request) -> web.StreamResponse:
        body = await read_object(request, max_body_bytes)
        patient_id = request[PATIENT_ID]
        check_patient_context(body, patient_id)
        await require_vapi()
        credential = issue()
        request[CREDENTIAL_TYPE] = credential.type
        content = encode(answer(patient_id, credential))
        return web.Response(body=content, headers={hdrs.CONTENT_TYPE: JSON})

    return start


def check_patient_context(body: dict[str, object], patient_id: str) -> None:
    """Hold the body's `patientContext`, when there is one, against the token's patient.

    Raises `ApiError`: INVALID_PATIENT_CONTEXT for one that is malformed, PATIENT_MISMATCH for one
    that names somebody else.
    """
    if "patientContext" not in body:
        return
    context = body["patientContext"]
    if not isinstance(context, dict):
        raise _invalid("patientContext must be an object")
    claimed = context.get("id")
    if not isinstance(claimed, str):
        raise _invalid("patientContext.id must be a string")
    if usable_id(claimed) is None:
        raise _invalid(f"patientContext.id must be {PATIENT_ID_IN_WORDS}")
    if claimed != patient_id:
        details = "patientContext.id is not the patient of the token"
        raise ApiError(ErrorCode.PATIENT_MISMATCH, details)


def _invalid(details: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_PATIENT_CONTEXT, details)

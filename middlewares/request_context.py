"""The facts of a request that middlewares share: typed request keys, and the principal."""

from typing import Final

import msgspec
from aiohttp import web


class Principal(msgspec.Struct, frozen=True):
    """The authenticated caller, as described by the verified token.

    `patient_id` and `token_id` (`jti`) are None when the token contains no usable value;
    `valid_from` (the later of `nbf` and `iat`, or 0) and `expires_at` (`exp`) are seconds since the
    epoch.
    """

    patient_id: str | None
    roles: frozenset[str]
    scopes: frozenset[str]
    token_id: str | None
    valid_from: float
    expires_at: float


class RequestContext(msgspec.Struct):
    """What the audit line, the logs and the headers say about a request.

    `started_at` is when the request entered the outermost middleware, in seconds of
    `time.perf_counter`. `trace_id` is the one of a valid `traceparent` header (W3C Trace Context).
    `error_code` is set with an error response, `reason` with a 401 or 403; `credential_type`,
    `proof_id` (the `jti` of the patient proof) and `assistant_id` are set when they are issued,
    `consent` (versions by name) when consent was required and given.
    """

    started_at: float
    request_id: str
    trace_id: str | None
    error_code: str | None = None
    reason: str | None = None
    credential_type: str | None = None
    proof_id: str | None = None
    assistant_id: str | None = None
    consent: dict[str, str] | None = None


CONTEXT: Final = web.RequestKey("CONTEXT", RequestContext)
"""Set by `audit`, for every request. One record takes less time than a key for each fact."""

PRINCIPAL: Final = web.RequestKey("PRINCIPAL", Principal)

PATIENT_ID: Final = web.RequestKey("PATIENT_ID", str)
"""The id of the authorized patient; set by `authorization`."""

RECEIVING: Final = web.RequestKey("RECEIVING", bool)
"""True while the handler waits for the request body."""

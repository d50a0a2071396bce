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


STARTED_AT: Final = web.RequestKey("STARTED_AT", float)
"""When the request entered the outermost middleware, in seconds of `time.perf_counter`."""

REQUEST_ID: Final = web.RequestKey("REQUEST_ID", str)

TRACE_ID: Final = web.RequestKey("TRACE_ID", str)
"""The trace id of a valid `traceparent` header (W3C Trace Context); absent without one."""

PRINCIPAL: Final = web.RequestKey("PRINCIPAL", Principal)

ERROR_CODE: Final = web.RequestKey("ERROR_CODE", str)
"""The code of the error response; absent from a success."""

CREDENTIAL_TYPE: Final = web.RequestKey("CREDENTIAL_TYPE", str)
"""The type of the issued credential; absent when none was issued."""

PROOF_ID: Final = web.RequestKey("PROOF_ID", str)
"""The `jti` of the issued patient proof; absent when none was issued."""

PATIENT_ID: Final = web.RequestKey("PATIENT_ID", str)
"""The id of the authorized patient; set by `authorization`."""

RECEIVING: Final = web.RequestKey("RECEIVING", bool)
"""True while the handler waits for the request body."""

"""What the links of the chain tell one another about a request: typed keys, and who is calling."""

from typing import Final

import msgspec
from aiohttp import web


class Principal(msgspec.Struct, frozen=True):
    """The caller, as the verified token tells of them.

    `patient_id` and `token_id` (`jti`) are None when the token carries none that is usable;
    `valid_from` (the later of `nbf` and `iat`, or 0) and `expires_at` (`exp`) are seconds since the
    epoch.
    """

    patient_id: str | None
    roles: frozenset[str]
    scopes: frozenset[str]
    token_id: str | None
    valid_from: float
    expires_at: float


STARTED: Final = web.RequestKey("STARTED", float)
"""When the request reached the chain, by `time.perf_counter`, in seconds."""

REQUEST_ID: Final = web.RequestKey("REQUEST_ID", str)

PRINCIPAL: Final = web.RequestKey("PRINCIPAL", Principal)

ERROR_CODE: Final = web.RequestKey("ERROR_CODE", str)
"""The code of the error that the request was answered with; absent from a success."""

CREDENTIAL_TYPE: Final = web.RequestKey("CREDENTIAL_TYPE", str)
"""What kind of credential was handed out; absent when none was."""

PATIENT_ID: Final = web.RequestKey("PATIENT_ID", str)
"""Whom the session is for: set once they have been found to be a patient, and may ask."""

RECEIVING: Final = web.RequestKey("RECEIVING", bool)
"""True while the client still sends a body that the handler waits for."""

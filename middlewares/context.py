"""The facts of a request that middlewares share: request keys, principal, trace id and time."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Final

import msgspec
from aiohttp import web


class Principal(msgspec.Struct, frozen=True):
    """The authenticated caller, as described by the verified token.

    `patient_id` and `token_id` (`jti`) are None when the token contains no usable value;
    `valid_from` (the later of `nbf` and `iat`, or 0) and `expires_at` (`exp`) are seconds since the
    epoch. `assistants` are the names of assistants that the token grants, in its order, and
    `consents` the `name@version` of each consent that it states.
    `key_thumbprint` is `cnf.jkt` (RFC 9449 section 6.1) of a token that is bound to a key,
    or empty when that is malformed.
    """

    patient_id: str | None
    roles: frozenset[str]
    scopes: frozenset[str]
    token_id: str | None
    valid_from: float
    expires_at: float
    assistants: tuple[str, ...] = ()
    consents: frozenset[str] = frozenset()
    key_thumbprint: str | None = None


class Access(msgspec.Struct, frozen=True):
    """What is known elsewhere about a caller.

    `revoked` tells whether the token or the patient was revoked. With `counted` the request was
    counted for the rate limit, and `wait` is the seconds to wait, or None within the limit.
    """

    revoked: bool
    counted: bool = False
    wait: float | None = None


class RequestContext(msgspec.Struct):
    """What the audit line, the logs and the headers say about a request.

    `started_at` is when the head was parsed, or inside a host application when the request entered
    the outermost middleware, in seconds of `time.perf_counter`.
    `trace_id` is the one of a valid `traceparent` header (W3C Trace Context).
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


STARTED_AT: Final = web.RequestKey("STARTED_AT", float)
"""When the head was parsed, in seconds of `time.perf_counter`; absent inside a host application."""

CONTEXT: Final = web.RequestKey("CONTEXT", RequestContext)
"""Set by `audit`, for every request. One record takes less time than a key for each fact."""

PRINCIPAL: Final = web.RequestKey("PRINCIPAL", Principal)

ACCESS: Final = web.RequestKey("ACCESS", Access)
"""Set by `revocation`, which is absent when nothing can be revoked."""

PATIENT_ID: Final = web.RequestKey("PATIENT_ID", str)
"""The id of the authorized patient; set by `authorization`."""

RECEIVING: Final = web.RequestKey("RECEIVING", bool)
"""True while the handler waits for the request body."""

Clock = Callable[[], float]
"""Returns the current time in seconds since the epoch."""


def rfc3339(seconds: float) -> str:
    """Format seconds since the epoch as a UTC timestamp: `2026-01-31T09:30:00.000Z`."""
    return rfc3339_milliseconds(int(seconds * 1000))


@lru_cache(maxsize=4)
def rfc3339_milliseconds(milliseconds: int) -> str:
    """Format milliseconds since the epoch; requests of the same millisecond share the result."""
    whole = datetime.fromtimestamp(milliseconds // 1000, UTC).replace(tzinfo=None)
    return f"{whole.isoformat()}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=1)
def http_date(seconds: int) -> str:
    """Format whole seconds since the epoch: `Sat, 31 Jan 2026 09:30:00 GMT` (RFC 9110, 5.6.7)."""
    return formatdate(seconds, usegmt=True)


TRACEPARENT: Final = "traceparent"

_VERSION_00: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LATER_VERSION: Final = re.compile(
    r"(?!00|ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


def parse_trace_id(values: Sequence[str]) -> str | None:
    """Return the trace id, 32 hexadecimal digits, from the values of all `traceparent` headers.

    Returns None unless there is exactly one header and it is valid: version 00 has exactly four
    fields, later versions may append more, version ff and ids of zeros only are invalid.
    """
    if len(values) != 1:
        return None
    match = _VERSION_00.fullmatch(values[0]) or _LATER_VERSION.fullmatch(values[0])
    return match[1] if match else None

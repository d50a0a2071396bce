"""The request id, and one audit line for each request to the endpoint, granted or denied."""

import hmac
import re
from collections.abc import Callable, Collection
from random import getrandbits
from time import perf_counter, time
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.client_address import make_address_finder
from middlewares.cors import is_preflight
from middlewares.request_context import CONTEXT, PRINCIPAL, RequestContext
from middlewares.response_headers import X_REQUEST_ID
from middlewares.timestamps import rfc3339
from middlewares.trace_context import TRACEPARENT, parse_trace_id

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CLIENT_DISCONNECTED: Final = 499
"""The recorded status, as in nginx, of a request whose client disconnected before the response."""

WriteLine = Callable[[bytes], None]


class AuditRecord(msgspec.Struct, frozen=True):
    """The fields of an audit line, in their order."""

    event: str
    timestamp: str
    request_id: str
    trace_id: str | None
    outcome: str
    status: int
    code: str | None
    patient: str | None
    credential_type: str | None
    proof_id: str | None
    duration_ms: float
    client: str | None
    peer: str | None
    assistant_id: str | None
    consent: dict[str, str] | None
    reason: str | None


def audit(
    *,
    event: str,
    write: WriteLine,
    write_refusal: WriteLine | None = None,
    hash_key: bytes = b"",
    trusted_proxies: Collection[str] = (),
) -> Middleware:
    """Set the request id and the trace id; write a line for each request to the route `event`.

    `write` gets the line of a granted request, `write_refusal` (by default the same) of any other.
    With `hash_key` the line has the HMAC-SHA256 of the patient id, in hex, in place of the id.
    `trusted_proxies` are the networks (CIDR) of proxies whose `X-Forwarded-For` is trusted.
    """
    encode = msgspec.json.Encoder().encode
    record = _make_recorder(event, hash_key, trusted_proxies)
    writers = {"granted": write, "denied": write_refusal or write}

    @web.middleware
    async def audit_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = request.headers
        request[CONTEXT] = RequestContext(
            started_at=perf_counter(),
            request_id=request_id(headers.get(X_REQUEST_ID)),
            trace_id=parse_trace_id(headers.getall(TRACEPARENT, ())),
        )
        response = None
        try:
            response = await handler(request)
            return response
        finally:
            if request.match_info.route.name == event and not is_preflight(request):
                made = record(request, response)
                writers[made.outcome](encode(made))

    return audit_middleware


def _make_recorder(
    event: str, hash_key: bytes, trusted_proxies: Collection[str]
) -> Callable[[web.Request, web.StreamResponse | None], AuditRecord]:
    """Return the function that describes a request and its response; None is no response."""
    find_addresses = make_address_finder(trusted_proxies)

    def record(request: web.Request, response: web.StreamResponse | None) -> AuditRecord:
        context, principal = request[CONTEXT], request.get(PRINCIPAL)
        status = response.status if response is not None else _CLIENT_DISCONNECTED
        granted = status == 200
        forwarded_for = request.headers.getall(hdrs.X_FORWARDED_FOR, ())
        client, peer = find_addresses(request.remote, forwarded_for)
        return AuditRecord(
            event=event,
            timestamp=rfc3339(time()),
            request_id=context.request_id,
            trace_id=context.trace_id,
            outcome="granted" if granted else "denied",
            status=status,
            code=None if granted else context.error_code,
            patient=_name(principal.patient_id, hash_key) if principal is not None else None,
            credential_type=context.credential_type if granted else None,
            proof_id=context.proof_id if granted else None,
            duration_ms=round((perf_counter() - context.started_at) * 1000, 3),
            client=client,
            peer=peer,
            assistant_id=context.assistant_id if granted else None,
            consent=context.consent if granted else None,
            reason=None if granted else context.reason,
        )

    return record


def _name(patient_id: str | None, hash_key: bytes) -> str | None:
    if patient_id is None or not hash_key:
        return patient_id
    return hmac.digest(hash_key, patient_id.encode(), "sha256").hex()


def request_id(offered: str | None) -> str:
    """Return the client's request id if it is valid, else a new one of 32 hexadecimal digits."""
    if offered and _REQUEST_ID.fullmatch(offered):
        return offered
    return f"{getrandbits(128):032x}"

"""The audit line of each request: who asked from where, under which ids, and the outcome."""

import hmac
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from random import getrandbits
from time import perf_counter, time
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.context import (
    CONTEXT,
    PRINCIPAL,
    STARTED_AT,
    TRACEPARENT,
    RequestContext,
    parse_trace_id,
    rfc3339_milliseconds,
)
from middlewares.cors import is_preflight
from middlewares.headers import X_REQUEST_ID

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
        traceparents = headers.getall(TRACEPARENT, ())
        request[CONTEXT] = RequestContext(
            started_at=request.get(STARTED_AT) or perf_counter(),
            request_id=request_id(headers.get(X_REQUEST_ID)),
            trace_id=parse_trace_id(traceparents) if traceparents else None,
        )
        response = None
        try:
            response = await handler(request)
            return response
        finally:
            has_line = request.method != hdrs.METH_OPTIONS or not is_preflight(request)
            if has_line and request.match_info.route.name == event:
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
            timestamp=rfc3339_milliseconds(int(time() * 1000)),
            request_id=context.request_id,
            trace_id=context.trace_id,
            outcome="granted" if granted else "denied",
            status=status,
            code=None if granted else context.error_code,
            patient=patient_name(principal.patient_id, hash_key) if principal is not None else None,
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


def patient_name(patient_id: str | None, hash_key: bytes) -> str | None:
    """Return how logs name a patient: by HMAC-SHA256 when there is a key."""
    if patient_id is None or not hash_key:
        return patient_id
    return hmac.digest(hash_key, patient_id.encode(), "sha256").hex()


def request_id(offered: str | None) -> str:
    """Return the client's request id if it is valid, else a new one of 32 hexadecimal digits."""
    if offered and _REQUEST_ID.fullmatch(offered):
        return offered
    return f"{getrandbits(128):032x}"


Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

FindAddresses = Callable[[str | None, Sequence[str]], tuple[str | None, str | None]]
"""Returns the addresses of client and peer, given the peer as the socket reports it and the values
of all `X-Forwarded-For` headers. The peer of a Unix domain socket has no address: None."""

MAX_FORWARDED: Final = 32
"""More than a chain of proxies has: a client may send thousands, each of which costs time."""

_WITH_PORT: Final = re.compile(r"(?:\[(?P<v6>[^]]+:[^]]*)\]|(?P<v4>[0-9.]+))(?::([0-9]{1,5}))?")
_IPV4_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_MAX_PORT: Final = 65535


def make_address_finder(trusted_proxies: Iterable[str]) -> FindAddresses:
    """Return the function that finds client and peer; `trusted_proxies` are networks (CIDR).

    The peer is the client, unless it is a trusted proxy. Then `X-Forwarded-For` is read from the
    right, where the nearest proxy appended the address it saw, up to the first address that is not
    a trusted proxy: the entries to its left were sent by the client. An entry that is not an
    address ends the search at the address before it. If every address is trusted, the leftmost is
    the client. At most the `MAX_FORWARDED` rightmost entries are looked at.

    Raises ValueError for a text that is not a network.
    """
    networks = [_parse_network(text) for text in trusted_proxies]
    if not networks:
        return _peer_alone

    def is_trusted(address: Address) -> bool:
        return any(address in network for network in networks)

    def find_client(peer: Address, forwarded_for: Sequence[str]) -> Address:
        client = peer
        if is_trusted(peer):
            entries = ",".join(forwarded_for).rsplit(",", MAX_FORWARDED)
            for entry in reversed(entries[-MAX_FORWARDED:]):
                if (address := parse_address(entry.strip(" \t"))) is None:
                    break
                client = address
                if not is_trusted(address):
                    break
        return client

    def find_addresses(
        peer: str | None, forwarded_for: Sequence[str]
    ) -> tuple[str | None, str | None]:
        address = parse_address(peer) if peer else None
        if address is None:
            return _peer_alone(peer, forwarded_for)
        return str(find_client(address, forwarded_for)), str(address)

    return find_addresses


def _peer_alone(peer: str | None, _: Sequence[str]) -> tuple[str | None, str | None]:
    name = _canonical(peer) if peer else None
    return name, name


@lru_cache(maxsize=1024)
def _canonical(peer: str) -> str:
    return str(parse_address(peer) or peer)


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """Return the address in an entry of `X-Forwarded-For`, or None when it is not one.

    A port is dropped (`192.0.2.1:80`, `[2001:db8::1]:80`); an IPv4-mapped IPv6 address becomes
    IPv4; an address with a zone id (RFC 4007) is not an address outside its host.
    """
    if match := _WITH_PORT.fullmatch(text):
        text = match["v6"] or match["v4"]
        if int(match[3] or 0) > _MAX_PORT:
            return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return None if address.scope_id else address.ipv4_mapped or address


def _parse_network(text: str) -> Network:
    """Return the network; one of IPv4-mapped addresses becomes IPv4."""
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_IPV4_MAPPED):
        mapped = network.network_address.ipv4_mapped
        return ip_network(f"{mapped}/{network.prefixlen - _IPV4_MAPPED.prefixlen}")
    return network

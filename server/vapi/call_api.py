"""Vapi's list of calls, and the end of a call. Transcripts and recordings are never decoded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, hdrs

from middlewares.context import rfc3339
from server.http_client import describe_failure
from server.proof import changed_overrides

_PAGE_BYTES: Final = 16 * 1024 * 1024
_PAGE_CALLS: Final = 1000
_TIMEOUT: Final = ClientTimeout(total=4)
_MAX_REQUESTS: Final = 300
"""The requests of one reading: a list that cannot be read in so many is a failure."""
_NARROWEST: Final = 0.002
"""Seconds: Vapi writes dates in milliseconds, so a window this narrow is not split."""
_NULL: Final = msgspec.Raw(b"null")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class CallListError(Exception):
    """The list cannot be read now. `retry_after` is what Vapi asked for, in seconds."""

    def __init__(self, reason: str, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class _TooLarge(Exception):  # noqa: N818  it names a state
    """A page is larger than `_PAGE_BYTES`."""


class _Monitor(msgspec.Struct, rename="camel"):
    control_url: str | None = None


class _Entry(msgspec.Struct, rename="camel"):
    """What is decoded of a `Call`: all other fields are skipped."""

    id: str
    created_at: datetime
    updated_at: datetime
    type: str = ""
    status: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    ended_reason: str | None = None
    cost: float | None = None
    assistant_id: str | None = None
    monitor: _Monitor | None = None
    assistant_overrides: msgspec.Raw = _NULL
    assistant: msgspec.Raw = _NULL
    squad: msgspec.Raw = _NULL
    squad_id: msgspec.Raw = _NULL
    workflow: msgspec.Raw = _NULL
    workflow_id: msgspec.Raw = _NULL
    assistant_version: msgspec.Raw = _NULL


_DEFINITIONS: Final = {
    "assistant": "assistant",
    "squad": "squad",
    "squadId": "squad_id",
    "workflow": "workflow",
    "workflowId": "workflow_id",
    "assistantVersion": "assistant_version",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebCall:
    """A web call. Dates are in seconds since the epoch; `changed` names what is not allowed."""

    id: str
    status: str
    created_at: float
    updated_at: float
    started_at: float | None = None
    ended_at: float | None = None
    ended_reason: str | None = None
    cost: float | None = None
    assistant_id: str | None = None
    proof: str | None = field(default=None, repr=False)
    changed: tuple[str, ...] = ()
    control_url: str | None = field(default=None, repr=False)

    @property
    def is_in_progress(self) -> bool:
        """Return whether the call has not ended."""
        return self.status != "ended" and self.ended_at is None

    def seconds(self, now: float) -> float:
        """Return how long the call has lasted."""
        began = self.created_at if self.started_at is None else self.started_at
        return max(0.0, (now if self.is_in_progress else self.ended_at or began) - began)


@dataclass(frozen=True, slots=True)
class CallList:
    """The web calls by id, and whether one entry alone was too large to read.

    `date` is Vapi's clock, in seconds since the epoch, or None without a valid `Date`.
    """

    calls: dict[str, WebCall]
    unreadable: bool
    date: float | None


_decode_page = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


class CallApi:
    """Reads and ends calls. `allowed` are the overrides that a call may have."""

    def __init__(
        self, *, base_url: str, api_key: str, public_key: str, allowed: tuple[str, ...]
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/call"
        self._is_local = urlsplit(base_url).hostname in _LOOPBACK
        self._headers = {hdrs.AUTHORIZATION: f"Bearer {api_key}"}
        self._end_headers = {hdrs.AUTHORIZATION: f"Bearer {public_key}"} if public_key else {}
        self._allowed = allowed

    async def read(self, session: ClientSession, since: float, until: float) -> CallList:
        """Return the web calls that changed between two times. Raises `CallListError`."""
        reading = _Reading({}, allowed=self._allowed)
        windows = [(since, until, _PAGE_CALLS)]
        for _ in range(_MAX_REQUESTS):
            if not windows:
                return CallList(reading.calls, reading.unreadable, reading.date)
            windows += await self._read_window(session, reading, *windows.pop())
        raise CallListError("too many pages")

    async def _read_window(
        self, session: ClientSession, reading: "_Reading", since: float, until: float, limit: int
    ) -> list[tuple[float, float, int]]:
        """Read one page; return the windows that must be read in addition."""
        middle, is_narrow = (since + until) / 2, until - since <= _NARROWEST
        try:
            page = await self._page(session, reading, since, until, limit)
        except _TooLarge:
            if limit > 1:
                return [(since, until, limit // 2)]
            reading.unreadable = reading.unreadable or is_narrow
        else:
            times = sorted(reading.add(page))
            if len(page) < limit:
                return []
            if times and since < times[len(times) // 2] < until:
                middle = times[len(times) // 2]
        return [] if is_narrow else [(since, middle, limit), (middle, until, limit)]

    async def _page(
        self, session: ClientSession, reading: "_Reading", since: float, until: float, limit: int
    ) -> list[msgspec.Raw]:
        query = {
            "limit": str(limit),
            "updatedAtGe": rfc3339(since),
            "updatedAtLe": rfc3339(until + 0.001),
        }
        try:
            async with session.get(
                self._url,
                params=query,
                headers=self._headers,
                timeout=_TIMEOUT,
                allow_redirects=False,
            ) as response:
                _check_status(response)
                reading.date = _date_of(response)
                return _decode_page(await _read_body(response))
        except (ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            raise CallListError(describe_failure(error)) from None

    def can_end(self, call: WebCall) -> bool:
        """Return whether the control address is Vapi's; no other address is ever called."""
        try:
            url = urlsplit(call.control_url or "")
            host = url.hostname or ""
            is_plain = url.port is None or url.port > 0
        except ValueError:
            return False
        if url.username is not None or not is_plain:
            return False
        if url.scheme == "https" and (host == "vapi.ai" or host.endswith(".vapi.ai")):
            return True
        return self._is_local and host in _LOOPBACK and url.scheme in {"http", "https"}

    async def end(self, session: ClientSession, call: WebCall) -> bool:
        """End a call; return whether Vapi accepted it."""
        if not self.can_end(call):
            return False
        try:
            async with session.post(
                str(call.control_url),
                json={"type": "end-call"},
                headers=self._end_headers,
                timeout=_TIMEOUT,
                allow_redirects=False,
            ) as response:
                response.close()
                return 200 <= response.status < 300
        except (ClientError, TimeoutError, OSError, ValueError):
            return False


@dataclass(slots=True)
class _Reading:
    calls: dict[str, WebCall]
    allowed: tuple[str, ...]
    unreadable: bool = False
    date: float | None = None

    def add(self, page: list[msgspec.Raw]) -> Iterator[float]:
        """Add the web calls of a page; yield when each call changed. Junk is skipped."""
        for raw in page:
            try:
                entry = _decode_entry(raw)
                call = _web_call(entry, self.allowed)
            except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
                continue
            yield call.updated_at
            if entry.type == "webCall":
                self.calls[call.id] = call


def _web_call(entry: _Entry, allowed: tuple[str, ...]) -> WebCall:
    overrides: Any = msgspec.json.decode(entry.assistant_overrides)
    definitions = {
        name: True
        for name, attribute in _DEFINITIONS.items()
        if bytes(getattr(entry, attribute)) != b"null"
    }
    call = {**definitions, "assistantOverrides": overrides}
    return WebCall(
        id=entry.id,
        status=entry.status,
        created_at=_seconds(entry.created_at),
        updated_at=_seconds(entry.updated_at),
        started_at=None if entry.started_at is None else _seconds(entry.started_at),
        ended_at=None if entry.ended_at is None else _seconds(entry.ended_at),
        ended_reason=entry.ended_reason,
        cost=entry.cost,
        assistant_id=entry.assistant_id,
        proof=_proof_of(overrides),
        changed=tuple(changed_overrides(call, allowed)),
        control_url=entry.monitor.control_url if entry.monitor else None,
    )


def _proof_of(overrides: object) -> str | None:
    values = overrides.get("variableValues") if isinstance(overrides, Mapping) else None
    proof = values.get("patientProof") if isinstance(values, Mapping) else None
    return proof if isinstance(proof, str) else None


def _seconds(date: datetime) -> float:
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _check_status(response: ClientResponse) -> None:
    if response.status != 200:
        raise CallListError(f"status {response.status}", _retry_after(response))


def _retry_after(response: ClientResponse) -> float:
    text = response.headers.get(hdrs.RETRY_AFTER, "")
    return min(float(text), 3600.0) if text.isascii() and text.isdecimal() else 0.0


def _date_of(response: ClientResponse) -> float | None:
    try:
        date = parsedate_to_datetime(response.headers.get(hdrs.DATE, "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return date if isfinite(date) else None


async def _read_body(response: ClientResponse) -> bytes:
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > _PAGE_BYTES:
            raise _TooLarge
    return bytes(body)

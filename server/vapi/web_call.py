"""A web call as Vapi lists it. Transcripts, recordings and definitions are never kept."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from server.proof import DEFINITIONS, changed_overrides

_MAX_TEXT: Final = 128
_MAX_NAME: Final = 64
_MAX_NAMES: Final = 16
_WEB_CALL: Final = "webCall"
_NULL: Final = msgspec.Raw(b"null")
_UNREADABLE: Final = "unreadable"

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=_MAX_TEXT)]


class _Monitor(msgspec.Struct, rename="camel"):
    control_url: str | None = None


class _Entry(msgspec.Struct, rename="camel"):
    """What is decoded of a `Call`: all other fields are skipped."""

    id: _Id
    created_at: datetime
    updated_at: datetime | None = None
    type: str = ""
    status: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    ended_reason: str | None = None
    cost: float | None = None
    assistant_id: _Id | None = None
    monitor: _Monitor | None = None
    assistant_overrides: msgspec.Raw = _NULL
    assistant: msgspec.Raw = _NULL
    squad: msgspec.Raw = _NULL
    squad_id: msgspec.Raw = _NULL
    workflow: msgspec.Raw = _NULL
    workflow_id: msgspec.Raw = _NULL
    assistant_version: msgspec.Raw = _NULL


_DEFINITIONS: Final = {
    each.encode_name: each.name
    for each in msgspec.structs.fields(_Entry)
    if each.encode_name in DEFINITIONS
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebCall:
    """A web call. Dates are in seconds since the epoch.

    `changed` names what is not allowed: at most 16 names, each cut at 64 characters.
    """

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

    @property
    def began_at(self) -> float:
        """When the call was started, else created."""
        return self.created_at if self.started_at is None else self.started_at

    def last_moment(self, now: float) -> float:
        """Return when the call ended, or `now`; without an end Vapi's last change of it counts."""
        if self.is_in_progress:
            return now
        return self.updated_at if self.ended_at is None else self.ended_at

    def seconds(self, now: float) -> float:
        """Return how long the call has lasted."""
        return max(0.0, self.last_moment(now) - self.began_at)


_decode_strictly: Final = msgspec.json.Decoder(_Entry).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_DECODERS: Final = {
    each.encode_name: msgspec.json.Decoder(each.type) for each in msgspec.structs.fields(_Entry)
}


def _decode_entry(raw: msgspec.Raw) -> _Entry:
    """Decode a call; a field in another form than Vapi documents counts as absent.

    Raises `MsgspecError` when it is no call.
    """
    try:
        return _decode_strictly(raw)
    except msgspec.ValidationError:
        members = _decode_members(raw)
    sound = {name: value for name, value in members.items() if _is_sound(name, value)}
    return _decode_strictly(msgspec.json.encode(sound))


def _is_sound(name: str, value: msgspec.Raw) -> bool:
    try:
        _DECODERS[name].decode(value)
    except (KeyError, msgspec.ValidationError):
        return False
    return True


_split_page = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class PageEntry:
    """When a call was changed and created, in milliseconds; `call` only for a web call."""

    updated: int
    created: int
    call: WebCall | None


def decode_entry(raw: msgspec.Raw, allowed: tuple[str, ...]) -> PageEntry | None:
    """Decode an entry of a page, or return None when it is no call.

    `allowed` are the overrides that a call may have.
    """
    try:
        entry = _decode_entry(raw)
        created = _seconds(entry.created_at)
        updated = created if entry.updated_at is None else _seconds(entry.updated_at)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        return None
    call = _web_call(entry, created, updated, allowed) if entry.type == _WEB_CALL else None
    return PageEntry(round(updated * 1000), round(created * 1000), call)


def _web_call(
    entry: _Entry, created_at: float, updated_at: float, allowed: tuple[str, ...]
) -> WebCall:
    overrides = _decode_overrides(entry.assistant_overrides)
    definitions = {
        name: True
        for name, attribute in _DEFINITIONS.items()
        if bytes(getattr(entry, attribute)) != b"null"
    }
    call = {**definitions, "assistantOverrides": overrides}
    return WebCall(
        id=entry.id,
        status=entry.status,
        created_at=created_at,
        updated_at=updated_at,
        started_at=None if entry.started_at is None else _seconds(entry.started_at),
        ended_at=None if entry.ended_at is None else _seconds(entry.ended_at),
        ended_reason=entry.ended_reason and entry.ended_reason[:_MAX_TEXT],
        cost=entry.cost,
        assistant_id=entry.assistant_id,
        proof=_proof_of(overrides),
        changed=tuple(name[:_MAX_NAME] for name in changed_overrides(call, allowed)[:_MAX_NAMES]),
        control_url=entry.monitor.control_url if entry.monitor else None,
    )


def _decode_overrides(raw: msgspec.Raw) -> Any:
    """Decode overrides; what cannot be decoded is no mapping, so the call counts as altered."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _UNREADABLE


def _proof_of(overrides: object) -> str | None:
    values = overrides.get("variableValues") if isinstance(overrides, Mapping) else None
    proof = values.get("patientProof") if isinstance(values, Mapping) else None
    return proof if isinstance(proof, str) else None


def _seconds(date: datetime) -> float:
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


_TOKEN: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"|[][{},]', re.DOTALL)
_NESTING: Final = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_LARGE_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class UnreadableCall:
    """A call that cannot be read: its id, and the milliseconds of its dates, where known."""

    id: str | None
    updated: int | None = None
    created: int | None = None


def decode_page(body: bytearray) -> tuple[list[msgspec.Raw], list[UnreadableCall]]:
    """Split a page into its entries, so that junk is confined to its own; and find the calls that
    are nested too deeply. Raises ValueError.
    """
    try:
        return _split_page(body), []
    except RecursionError:
        entries, deep = [], []
        for each in _split_slowly(bytes(body)):
            try:
                entries.append(msgspec.json.decode(each, type=msgspec.Raw))
            except RecursionError:
                deep.append(read_start(b"[" + each))
        return entries, deep


def _split_slowly(body: bytes) -> Iterator[bytes]:
    """Yield the objects of an array."""
    depth = start = 0
    for match in _TOKEN.finditer(body):
        nesting = _NESTING.get(match[0], 0)
        depth += nesting
        if depth == 2 and nesting == 1:
            start = match.start()
        elif depth == 1 and match[0] == b"}":
            yield body[start : match.end()]


def read_start(start: bytes) -> UnreadableCall:
    """Read the first bytes of a page of one call, whose end is missing."""
    texts = _first_texts(start)
    call_id = texts.get(b"id", b"")[:_MAX_TEXT].decode(errors="replace") or None
    return UnreadableCall(call_id, *(_milliseconds(texts.get(n, b"")) for n in _DATES))


_DATES: Final = (b"updatedAt", b"createdAt")


def _first_texts(start: bytes) -> dict[bytes, bytes]:
    """Return the members of the first object of an array that are strings."""
    found: dict[bytes, bytes] = {}
    depth, name = 0, None
    for match in _TOKEN.finditer(start):
        depth += _NESTING.get(match[0], 0)
        if depth == 2 and match[0] == b",":
            name = None
        elif depth == 2 and match[1] is not None and name is None:
            name = match[1]
        elif depth == 2 and match[1] is not None and name is not None:
            found.setdefault(name, match[1])
    return found


def find_large(body: bytearray) -> UnreadableCall:
    """Return the dates of the last call of a page that was cut off, if most of the page is its own.

    They may be another's: this is only a hint where to look.
    """
    dates = (_date_before_large(body, name) for name in _DATES)
    return UnreadableCall(None, *map(_milliseconds, dates))


def _date_before_large(body: bytearray, name: bytes) -> bytes:
    place = body.rfind(b'"%b"' % name, 0, max(0, len(body) - _LARGE_BYTES))
    is_last = place >= 0 and body.find(b'"%b"' % name, place + 1) < 0
    found = _DATE.search(body, place, place + 100) if is_last else None
    return found[1] if found else b""


_DATE: Final = re.compile(rb':\s*"([0-9TZ:.+-]{1,40})"')


def _milliseconds(date: bytes) -> int | None:
    try:
        return round(_seconds(msgspec.convert(date.decode(), datetime)) * 1000)
    except (ValueError, OverflowError):  # a ValidationError is a ValueError
        return None

"""The calls that the stand-in accepted, by id, and how many of them are active."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from secrets import randbits
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType, structs
from yarl import URL

from sandbox.vapi.call_request import CallRequest
from sandbox.vapi.errors import OVER_CONCURRENCY_LIMIT, Refusal

CONCURRENCY_LIMIT: Final = 10
# Vapi's defaults of `customerJoinTimeoutSeconds` and `maxDurationSeconds`.
JOIN_SECONDS: Final = 15.0
MAX_SECONDS: Final = 600.0
_NO_AUDIO: Final = "call.in-progress.error-assistant-did-not-receive-customer-audio"
_TOO_LONG: Final = "exceeded-max-duration"
_TICK: Final = 0.01


class Monitor(Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a call can be listened to and controlled."""

    listen_url: str
    control_url: str


class Transport(Struct, frozen=True, kw_only=True, rename="camel"):
    """How the audio travels: a room of Daily's."""

    call_url: str
    room_delete_on_user_leave_enabled: bool = True
    provider: str = "daily"
    conversation_type: str = "voice"
    video_recording_enabled: bool = False
    assistant_video_enabled: bool = False


class ArtifactPlan(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is recorded."""

    video_recording_enabled: bool = False


class Call(Struct, frozen=True, kw_only=True, rename="camel"):
    """Vapi's `Call`: the answer to `POST /call/web`, and `message.call` of every webhook.

    `msgspec.to_builtins(call)` gives it in Vapi's names.
    """

    id: str
    org_id: str
    created_at: str
    updated_at: str
    assistant_id: str | UnsetType = UNSET
    assistant: dict[str, Any] | UnsetType = UNSET
    assistant_overrides: dict[str, Any]
    monitor: Monitor
    transport: Transport
    web_call_url: str
    type: str = "webCall"
    status: str = "queued"
    started_at: str | UnsetType = UNSET
    ended_at: str | UnsetType = UNSET
    ended_reason: str | UnsetType = UNSET
    cost: int = 0
    artifact_plan: ArtifactPlan = ArtifactPlan()

    def limit(self, name: str, default: float) -> float:
        """Return a limit in seconds: of the overrides, else of a transient assistant."""
        assistant = {} if self.assistant is UNSET else self.assistant
        return float(self.assistant_overrides.get(name) or assistant.get(name) or default)


def new_call(org_id: str, requested: CallRequest, origin: URL) -> Call:
    """Return the requested call; `origin` is the address at which the stand-in was reached."""
    call_id, now = new_id(), timestamp()
    # An address of the stand-in, so that a client which follows it stays on this machine.
    room = str(origin.with_path(f"/room/{call_id}"))
    keep_room = requested.body.get("roomDeleteOnUserLeaveEnabled") is False
    return Call(
        id=call_id,
        org_id=org_id,
        created_at=now,
        updated_at=now,
        assistant_id=requested.assistant_id or UNSET,
        assistant=requested.assistant if requested.assistant is not None else UNSET,
        assistant_overrides=requested.overrides,
        monitor=Monitor(
            listen_url=str(origin.with_scheme("ws").with_path(f"/{call_id}/listen")),
            control_url=str(origin.with_path(f"/{call_id}/control")),
        ),
        transport=Transport(call_url=room, room_delete_on_user_leave_enabled=not keep_room),
        web_call_url=room,
    )


def new_id() -> str:
    """Return a UUID of version 7 (RFC 9562): milliseconds of time, then random bits."""
    milliseconds = int(time.time() * 1000)
    return str(UUID(int=milliseconds << 80 | 7 << 76 | randbits(12) << 64 | 2 << 62 | randbits(62)))


def timestamp() -> str:
    """Return the present time as Vapi writes it: RFC 3339 with milliseconds, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class WebCall:
    """A call, and who started it: the type of the credential and the `Origin` header."""

    call: Call
    credential_type: str
    origin: str


@dataclass(slots=True)
class _Active:
    """An active call: when it ends by itself and why; `ended` is set when it ends."""

    deadline: float
    reason: str
    last: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class CallStore:
    """Keeps the calls in the order in which they began.

    `limit` is the number of calls that may be active at once. A call without the customer's audio
    ends after `customerJoinTimeoutSeconds`, by default `seconds`; any call ends after
    `maxDurationSeconds`.
    """

    def __init__(
        self,
        *,
        limit: int = CONCURRENCY_LIMIT,
        seconds: float = JOIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._calls: dict[str, WebCall] = {}
        self._active: dict[str, _Active] = {}

    def add(self, call: WebCall) -> None:
        """Add a call. Raises Refusal when the maximum number of calls is active."""
        self.end_overdue()
        if len(self._active) >= self._limit:
            raise Refusal(400, OVER_CONCURRENCY_LIMIT)
        last = self._clock() + call.call.limit("maxDurationSeconds", MAX_SECONDS)
        self._calls[call.call.id] = call
        self._active[call.call.id] = _Active(last, _TOO_LONG, last)
        self._expect_audio(call.call)

    def join(self, call_id: str) -> None:
        """Note that the customer's audio arrives in an active call."""
        active = self._active[call_id]
        active.deadline, active.reason = active.last, _TOO_LONG
        call, now = self._calls[call_id], timestamp()
        if call.call.started_at is UNSET:
            self._replace(call_id, status="in-progress", updated_at=now, started_at=now)

    def leave(self, call_id: str) -> None:
        """Note that the customer has left: the call ends, unless its room is kept."""
        call = self._calls[call_id].call
        if call.transport.room_delete_on_user_leave_enabled:
            self.end(call_id, "customer-ended-call")
        elif call_id in self._active:
            self._expect_audio(call)

    def _expect_audio(self, call: Call) -> None:
        active = self._active[call.id]
        deadline = self._clock() + call.limit("customerJoinTimeoutSeconds", self._seconds)
        if deadline < active.last:
            active.deadline, active.reason = deadline, _NO_AUDIO

    def end_overdue(self) -> None:
        """End the calls whose time is over."""
        now = self._clock()
        overdue = [(id_, each) for id_, each in self._active.items() if each.deadline <= now]
        for call_id, active in overdue:
            self.end(call_id, active.reason)

    def end(self, call_id: str, reason: str) -> bool:
        """End a call; return whether it was active."""
        active = self._active.pop(call_id, None)
        if active is None:
            return False
        now = timestamp()
        self._replace(call_id, status="ended", updated_at=now, ended_at=now, ended_reason=reason)
        active.ended.set()
        return True

    async def until_ended(self, call_id: str) -> str:
        """Wait until a call has ended; return the reason."""
        while active := self._active.get(call_id):
            with suppress(TimeoutError):
                async with asyncio.timeout(max(active.deadline - self._clock(), _TICK)):
                    await active.ended.wait()
            self.end_overdue()
        return str(self._calls[call_id].call.ended_reason)

    def _replace(self, call_id: str, **changes: Any) -> None:
        call = self._calls[call_id]
        self._calls[call_id] = replace(call, call=structs.replace(call.call, **changes))

    @property
    def active(self) -> frozenset[str]:
        """The ids of the calls that have not ended."""
        self.end_overdue()
        return frozenset(self._active)

    def get(self, call_id: str) -> WebCall | None:
        """Return the call with this id, active or ended."""
        return self._calls.get(call_id)

    def __iter__(self) -> Iterator[WebCall]:
        return iter(self._calls.values())

    def __len__(self) -> int:
        return len(self._calls)

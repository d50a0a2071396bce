"""The calls that the stand-in accepted, by id, and how many of them are active."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from secrets import randbits
from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType, structs
from yarl import URL

from sandbox.vapi.call_request import CallRequest
from sandbox.vapi.errors import OVER_CONCURRENCY_LIMIT, Refusal

CONCURRENCY_LIMIT = 10
# A call of the stand-in has no audio, so it ends by itself.
CALL_SECONDS = 10.0


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


class CallStore:
    """Keeps the calls in the order in which they began.

    `limit` is the number of calls that may be active at once; a call is active for `seconds`.
    """

    def __init__(
        self,
        *,
        limit: int = CONCURRENCY_LIMIT,
        seconds: float = CALL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._calls: dict[str, WebCall] = {}
        self._ends: dict[str, float] = {}

    def add(self, call: WebCall) -> None:
        """Add a call. Raises Refusal when the maximum number of calls is active."""
        self.end_overdue()
        if len(self._ends) >= self._limit:
            raise Refusal(400, OVER_CONCURRENCY_LIMIT)
        self._ends[call.call.id] = self._clock() + self._seconds
        self._calls[call.call.id] = call

    def end_overdue(self) -> None:
        """End the calls whose time is over."""
        now = self._clock()
        for call_id in [each for each, end in self._ends.items() if end <= now]:
            self.end(call_id, "silence-timed-out")

    def end(self, call_id: str, reason: str) -> bool:
        """End a call; return whether it was active."""
        if self._ends.pop(call_id, None) is None:
            return False
        call, now = self._calls[call_id], timestamp()
        ended = structs.replace(
            call.call, status="ended", updated_at=now, ended_at=now, ended_reason=reason
        )
        self._calls[call_id] = replace(call, call=ended)
        return True

    @property
    def active(self) -> frozenset[str]:
        """The ids of the calls that have not ended."""
        self.end_overdue()
        return frozenset(self._ends)

    def get(self, call_id: str) -> WebCall | None:
        """Return the call with this id, active or ended."""
        return self._calls.get(call_id)

    def __iter__(self) -> Iterator[WebCall]:
        return iter(self._calls.values())

    def __len__(self) -> int:
        return len(self._calls)

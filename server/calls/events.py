"""The lines of the audit log about calls: started, ended, and what broke a rule."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from time import time
from typing import Any

import msgspec

from middlewares.audit import patient_name
from middlewares.context import rfc3339
from server.calls.classify import Classified
from server.observability.audit_log import MAX_LINE


class _CallRecord(msgspec.Struct, frozen=True, kw_only=True):
    event: str
    timestamp: str
    call_id: str | None
    patient: str | None = None
    proof_id: str | None = None
    assistant_id: str | None = None


class CallStarted(_CallRecord, frozen=True, kw_only=True):
    """A call has begun. `timestamp` is when."""


class CallEnded(_CallRecord, frozen=True, kw_only=True):
    """A call has ended. `timestamp` is when; `seconds` is how long it lasted."""

    seconds: float
    ended_reason: str | None
    cost: float | None


class CallFlagged(_CallRecord, frozen=True, kw_only=True):
    """A call broke a rule. `action` is what was done: `none`, `ended`, or `failed`."""

    rule: str
    overrides: list[str] | None
    action: str


class CallEvents:
    """Writes each event of a call once, as long as the call is remembered.

    With `hash_key` lines have the HMAC of the patient id.
    """

    def __init__(self, write: Callable[[msgspec.Struct], None], hash_key: bytes) -> None:
        self._write = write
        self._hash_key = hash_key
        self._told: dict[str, set[str]] = {}

    def is_new(self, call_id: str, name: str) -> bool:
        """Return whether an event or rule of a call comes for the first time, and remember it."""
        told = self._told.setdefault(call_id, set())
        is_new = name not in told
        told.add(name)
        return is_new

    def forget(self, call_ids: AbstractSet[str]) -> None:
        """Remember the events of these calls only."""
        for each in self._told.keys() - call_ids:
            del self._told[each]

    def tell(self, each: Classified) -> None:
        """Write that a call has started, and that it has ended."""
        call = each.call
        if self.is_new(call.id, "started"):
            began = rfc3339(call.began_at)
            event = "vapi_call_started"
            self._write(CallStarted(event=event, timestamp=began, **self._about(each)))
        if not call.is_in_progress and self.is_new(call.id, "ended"):
            ended_at = call.last_moment(call.updated_at)
            self._write(
                CallEnded(
                    event="vapi_call_ended",
                    timestamp=rfc3339(ended_at),
                    seconds=round(call.seconds(ended_at), 3),
                    ended_reason=call.ended_reason,
                    cost=call.cost,
                    **self._about(each),
                )
            )

    def tell_flagged(self, each: Classified, rule: str, action: str) -> None:
        """Write that a call broke a rule, and what was done."""
        names = None
        if rule == "altered":
            names = list(each.call.changed)
        self._write_flagged(rule, action, names, **self._about(each))

    def tell_unreadable(self, call_id: str | None) -> None:
        """Write that a call cannot be read."""
        self._write_flagged("unreadable", "none", None, call_id=call_id)

    def _write_flagged(self, rule: str, action: str, names: list[str] | None, **about: Any) -> None:
        record = CallFlagged(
            event="vapi_call_flagged",
            timestamp=rfc3339(time()),
            rule=rule,
            overrides=names,
            action=action,
            **about,
        )
        while names and len(msgspec.json.encode(record)) > MAX_LINE:
            names.pop()
        self._write(record)

    def _about(self, each: Classified) -> dict[str, Any]:
        return {
            "call_id": each.call.id,
            "patient": patient_name(each.patient, self._hash_key),
            "proof_id": each.proof_id,
            "assistant_id": each.call.assistant_id,
        }

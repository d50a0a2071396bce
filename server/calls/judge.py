"""Judges the calls by the rules: writes their events, and ends those that a rule ends."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf
from time import time
from typing import Any, Final

import msgspec
from aiohttp import ClientSession

from middlewares.audit import patient_name
from middlewares.context import rfc3339
from server.calls.endings import Endings
from server.calls.reader import CallReader
from server.calls.rules import (
    RULES,
    UNREADABLE,
    Classified,
    Rule,
    View,
    classify,
    never,
    parse_limits,
)
from server.config import Settings
from server.config.settings import CallMonitorMode
from server.observability.audit_log import MAX_LINE
from server.proof import VerifyProof
from server.vapi.assistants import names_by_id
from server.vapi.call_api import CallApi

log = logging.getLogger(__name__)

_VERIFIED_PROOFS: Final = 16384
_CALLS_AT_ONCE: Final = 25


class _CallRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    timestamp: str
    call_id: str | None
    patient: str | None = None
    proof_id: str | None = None
    assistant_id: str | None = None


class CallStarted(_CallRecord, frozen=True, kw_only=True, tag="vapi_call_started"):
    """A call has begun. `timestamp` is when."""


class CallEnded(_CallRecord, frozen=True, kw_only=True, tag="vapi_call_ended"):
    """A call has ended. `timestamp` is when; `seconds` is how long it lasted."""

    seconds: float
    ended_reason: str | None
    cost: float | None


class CallFlagged(_CallRecord, frozen=True, kw_only=True, tag="vapi_call_flagged"):
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

    def has(self, call_id: str) -> bool:
        """Return whether an event of this call is remembered."""
        return call_id in self._told

    def forget(self, call_ids: AbstractSet[str]) -> None:
        """Remember the events of these calls only."""
        for each in self._told.keys() - call_ids:
            del self._told[each]

    def tell(self, each: Classified) -> None:
        """Write that a call has started, and that it has ended."""
        call = each.call
        if self.is_new(call.id, "started"):
            self._write(CallStarted(timestamp=rfc3339(call.began_at), **self._about(each)))
        if not call.is_in_progress and self.is_new(call.id, "ended"):
            ended_at = call.last_moment(call.updated_at)
            self._write(
                CallEnded(
                    timestamp=rfc3339(ended_at),
                    seconds=round(call.seconds(ended_at), 3),
                    ended_reason=call.ended_reason,
                    cost=call.cost,
                    **self._about(each),
                )
            )

    def tell_flagged(self, each: Classified, rule: str, action: str) -> None:
        """Write that a call broke a rule, and what was done."""
        names = list(each.call.changed) if rule == "altered" else None
        self._write_flagged(rule, action, names, **self._about(each))

    def tell_unreadable(self, call_id: str | None) -> None:
        """Write that a call cannot be read."""
        self._write_flagged(UNREADABLE, "none", None, call_id=call_id)

    def _write_flagged(self, rule: str, action: str, names: list[str] | None, **about: Any) -> None:
        record = CallFlagged(
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


@dataclass(slots=True)
class MonitorNumbers:
    """The numbers of the metrics. `is_held_back`: calls were not ended for want of a known one."""

    readings: int = 0
    failures: int = 0
    in_progress: int = 0
    unendable: int = 0
    is_held_back: bool = False
    flagged: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys([*(rule.name for rule in RULES), UNREADABLE], 0)
    )
    ended: dict[str, int] = field(
        default_factory=lambda: {rule.name: 0 for rule in RULES if rule.ends is not never}
    )


class Judge:
    """Judges from when this process begins to read until it stops: its memory begins empty.

    `may_act` returns whether this process still has the task.
    """

    def __init__(
        self,
        settings: Settings,
        verify: VerifyProof,
        *,
        api: CallApi,
        session: ClientSession,
        write: Callable[[msgspec.Struct], None],
        numbers: MonitorNumbers,
        may_act: Callable[[], Awaitable[bool]],
    ) -> None:
        self.reader = CallReader(api)
        self.endings = Endings(self._try_to_end, self._record_end, settings.call_monitor_seconds)
        self._events = CallEvents(write, settings.audit_hash_key)
        self._verify = lru_cache(_VERIFIED_PROOFS)(verify)
        self._assistant_ids = frozenset(names_by_id(settings))
        self._limits = parse_limits(settings.call_limits)
        self._enforces = settings.call_monitor == CallMonitorMode.ENFORCE
        self._api = api
        self._session = session
        self._numbers = numbers
        self._may_act = may_act
        self._has_judged = False
        self._missed: set[str] = set()

    async def look(self) -> list[Classified]:
        """Return the calls that concern us, in the order of their creation.

        New proofs are verified a few at a time, so that requests do not wait.
        """
        found = []
        calls = list(self.reader.calls.values())
        for number, each in enumerate(classify(calls, self._verify, self._assistant_ids)):
            found.append(each)
            if number % _CALLS_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._missed = {each.call.id for each in found if self._is_missed(each)}
        return found

    def _is_missed(self, each: Classified) -> bool:
        """Return whether a call began and ended since the last judgement.

        Of calls before the first one, another process has judged those that it saw.
        """
        is_new = self._has_judged and not self._events.has(each.call.id)
        return is_new and not each.call.is_in_progress

    def patients(self, calls: Iterable[Classified]) -> set[str]:
        """Return the patients with calls in progress, or that ended before they were seen."""
        return {
            each.patient
            for each in calls
            if each.patient and (each.call.is_in_progress or each.call.id in self._missed)
        }

    async def judge(
        self, calls: list[Classified], revoked: Collection[str], first_reading: float
    ) -> View:
        """Write the events, begin to end calls, and return what the rules have seen.

        Calls created up to `first_reading`, in seconds since the epoch by Vapi, are not ended.
        """
        await self._tell(calls)
        in_progress = {each.call.id: each for each in calls if each.call.is_in_progress}
        self.endings.advance(in_progress)
        now, ending = self.reader.now(), self.endings.call_ids
        view = View(calls, now, self._limits, revoked, ending, self._missed)
        known_since = view.known_since
        if known_since < inf:
            self._numbers.is_held_back = False
            # Calls that another process reported before the first known call was seen go on.
            known_since = 0.0 if self._has_judged else known_since
        self._has_judged = True
        for rule in RULES:
            await asyncio.sleep(0)
            ends_from = max(first_reading, known_since if rule.needs_known_call else 0.0)
            for each in rule.find(view):
                if self._events.is_new(each.call.id, rule.name):
                    self._flag(rule, each, ends_from)
        self._numbers.in_progress = len(in_progress)
        self._numbers.unendable = len(self.endings.unendable)
        return view

    async def _tell(self, calls: list[Classified]) -> None:
        """Write which calls have started and ended, and which cannot be read."""
        for number, each in enumerate(calls):
            self._events.tell(each)
            if number % _CALLS_AT_ONCE == 0:
                await asyncio.sleep(0)
        unreadable = {each.id or f"changed {each.updated}": each for each in self.reader.unreadable}
        for name, unread in unreadable.items():
            if self._events.is_new(name, UNREADABLE):
                self._numbers.flagged[UNREADABLE] += 1
                self._events.tell_unreadable(unread.id)
        self._events.forget(self.reader.calls.keys() | unreadable.keys())

    def _flag(self, rule: Rule, each: Classified, ends_from: float) -> None:
        """Tell that a call broke a rule, and end it if it was created after `ends_from`."""
        self._numbers.flagged[rule.name] += 1
        could_end = self._enforces and each.call.is_in_progress and rule.ends(each)
        if could_end and each.call.created_at > ends_from:
            self.endings.begin(each, rule.name)
            return
        self._events.tell_flagged(each, rule.name, "none")
        if could_end and ends_from == inf:
            self._hold_back()

    def _hold_back(self) -> None:
        if not self._numbers.is_held_back:
            log.warning(
                "unknown and altered calls are not ended: no known, unaltered call was seen in the "
                "last 24 hours, so Vapi's list may lack what calls are known by"
            )
        self._numbers.is_held_back = True

    async def _try_to_end(self, each: Classified) -> bool | None:
        if not await self._may_act():
            return None
        return await self._api.end(self._session, each.call)

    def _record_end(self, each: Classified, rule: str, has_ended: bool) -> None:  # noqa: FBT001  a callback
        self._numbers.ended[rule] += has_ended
        self._events.tell_flagged(each, rule, "ended" if has_ended else "failed")

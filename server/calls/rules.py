"""The rules for calls as one list: which calls break each, and which of these are ended."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import inf
from typing import Final

from server.calls.classify import Classified

DAY_SECONDS: Final = 86400


@dataclass(frozen=True, slots=True)
class Limits:
    """`CALL_LIMITS`: the calls of a patient at once, and the minutes a day; None is no limit."""

    active: int | None = None
    minutes: int | None = None


def parse_limits(items: Sequence[str]) -> Limits:
    """Return the limits of a valid `CALL_LIMITS`."""
    parts = dict(item.split(":") for item in items)
    active, minutes = parts.get("active"), parts.get("minutes", "").removesuffix("/day")
    return Limits(int(active) if active else None, int(minutes) if minutes else None)


@dataclass(frozen=True, slots=True)
class View:
    """What the rules look at: the calls of the last 24 hours, in the order of their creation.

    `now` is Vapi's time; `revoked` are the revoked patients; `ending` are the ids of the calls that
    are being ended.
    """

    calls: Sequence[Classified]
    now: float
    limits: Limits
    revoked: Collection[str]
    ending: Collection[str] = ()
    by_patient: Mapping[str, list[Classified]] = field(init=False)
    used_up: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        """Group the calls, and find the patients whose minutes are used up."""
        object.__setattr__(self, "by_patient", _by_patient(self.calls))
        object.__setattr__(self, "used_up", dict(self._find_used_up()))

    @property
    def in_progress(self) -> Iterator[Classified]:
        """The calls that have not ended."""
        return (each for each in self.calls if each.call.is_in_progress)

    @property
    def known_since(self) -> float:
        """When the first known, unaltered call was created: then Vapi's list has what calls are
        known by. Without such a call, never.
        """
        known = (each for each in self.calls if each.is_known and not each.is_altered)
        return next((each.call.created_at for each in known), inf)

    def _find_used_up(self) -> Iterator[tuple[str, float]]:
        """Yield patients whose minutes are used up, and when some are free again."""
        if self.limits.minutes is None:
            return
        for patient, calls in self.by_patient.items():
            spans = self._spans(calls)
            if used_seconds(spans, self.now) >= 60 * self.limits.minutes:
                yield patient, _free_at(spans, self.now, 60 * self.limits.minutes)

    def _spans(self, calls: Sequence[Classified]) -> "list[Span]":
        return [(each.call.began_at, each.call.last_moment(self.now)) for each in calls]

    def beyond_minutes(self) -> Iterator[Classified]:
        """Yield the calls in which the minutes were used up, and those that began afterwards."""
        if self.limits.minutes is None:
            return
        allowed = 60 * self.limits.minutes
        for calls in self.by_patient.values():
            spans = self._spans(calls)
            if sum(end - start for start, end in spans) < allowed:
                continue
            for each, span in zip(calls, spans, strict=True):
                if any(used_seconds(spans, at) >= allowed for at in span):
                    yield each

    def beyond_limit(self) -> Iterator[Classified]:
        """Yield the oldest calls of patients who have more at once than allowed."""
        if (allowed := self.limits.active) is None:
            return
        for calls in self.by_patient.values():
            active = [
                each
                for each in calls
                if each.call.is_in_progress and each.call.id not in self.ending
            ]
            yield from active[: max(0, len(active) - allowed)]


def _by_patient(calls: Sequence[Classified]) -> dict[str, list[Classified]]:
    known = sorted(
        (each for each in calls if each.patient is not None), key=lambda each: str(each.patient)
    )
    return {name: list(group) for name, group in groupby(known, lambda each: str(each.patient))}


Span = tuple[float, float]
"""When a call began and ended, in seconds since the epoch."""


def used_seconds(spans: Sequence[Span], at: float) -> float:
    """Return how many seconds of calls are in the 24 hours before `at`."""
    since = at - DAY_SECONDS
    return sum(max(0.0, min(end, at) - max(start, since)) for start, end in spans)


def _free_at(spans: Sequence[Span], now: float, seconds: float) -> float:
    """Return when less than `seconds` are used, if no call goes on: to the second, not early."""
    early, late = 0, DAY_SECONDS
    while late - early > 1:
        middle = (early + late) // 2
        if used_seconds(spans, now + middle) < seconds:
            late = middle
        else:
            early = middle
    return now + late


@dataclass(frozen=True, slots=True)
class Rule:
    """`find` yields the calls that break the rule, `ends` tells which are ended with `enforce`.

    `needs_known_call`: ends calls only while a known, unaltered one was seen in the last 24 hours.
    """

    name: str
    find: Callable[[View], Iterator[Classified]]
    ends: Callable[[Classified], bool]
    needs_known_call: bool = False


def _always(_: Classified) -> bool:
    return True


def never(_: Classified) -> bool:
    """End no call: what `ends` of a rule is that only tells."""
    return False


RULES: Final[Sequence[Rule]] = [
    # Without a valid proof of ours: somebody used the key apart from our sessions. Calls that only
    # might be ours (a squad, an inline assistant) are another team's perhaps, and are told.
    Rule(
        "unknown",
        lambda view: (each for each in view.calls if not each.is_known),
        ends=lambda each: each.is_ours,
        needs_known_call=True,
    ),
    # With another prompt, model or tool than the clinic's.
    Rule(
        "altered",
        lambda view: (each for each in view.calls if each.is_altered),
        ends=_always,
        needs_known_call=True,
    ),
    # One proof is for one call. Tools refuse the second by themselves.
    Rule("reused", lambda view: (each for each in view.calls if each.is_reused), ends=never),
    # Revoked after the call began, or revoked when it begins.
    Rule(
        "revoked",
        lambda view: (each for each in view.in_progress if each.patient in view.revoked),
        ends=_always,
    ),
    # The oldest: an app that has crashed can call again at once.
    Rule("active", View.beyond_limit, ends=_always),
    # New sessions are refused; a call in progress goes on, Vapi's maxDurationSeconds bounds it.
    Rule("minutes", View.beyond_minutes, ends=never),
]
"""The order of the events of one call."""

UNREADABLE: Final = "unreadable"
"""The rule of calls that cannot be read: they are told, and there is nothing to judge or end."""

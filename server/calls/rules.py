"""What a call is (known, unknown, reused or altered, and whose), and the rules as one list."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from math import inf
from typing import Final, NamedTuple

from server.proof import VerifyProof
from server.vapi.web_call import WebCall

DAY_SECONDS: Final = 86400


@dataclass(frozen=True, slots=True)
class Classified:
    """A call and its class. `patient` is None for an unknown call.

    `is_ours`: on one of our assistants; `proof_id`: the `jti` of a proof that we signed.
    """

    call: WebCall
    patient: str | None
    proof_id: str | None
    is_ours: bool
    is_known: bool
    is_reused: bool
    is_altered: bool


def classify(
    calls: Iterable[WebCall], verify: VerifyProof, assistant_ids: frozenset[str]
) -> Iterator[Classified]:
    """Yield the calls that concern us, in the order in which they were created."""
    used: set[str] = set()
    for call in sorted(calls, key=lambda each: (each.created_at, each.id)):
        claims = verify(call.proof)
        is_ours = call.assistant_id in assistant_ids
        if not is_ours and claims is None and call.assistant_id is not None:
            continue
        is_known = claims is not None and claims.covers(call.assistant_id, call.created_at)
        yield Classified(
            call=call,
            patient=claims.sub if claims is not None and is_known else None,
            proof_id=None if claims is None else claims.jti,
            is_ours=is_ours,
            is_known=is_known,
            is_reused=claims is not None and claims.jti in used,
            is_altered=(is_ours or claims is not None) and bool(call.changed),
        )
        if claims is not None:
            used.add(claims.jti)


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


@dataclass(frozen=True)
class View:
    """What the rules look at: the calls of the last 24 hours, in the order of their creation.

    `now` is Vapi's time; `revoked` are the revoked patients; `ending` are the ids of the calls that
    are being ended, `missed` of those that began and ended between the last two readings.
    """

    calls: Sequence[Classified]
    now: float
    limits: Limits
    revoked: Collection[str]
    ending: Collection[str] = ()
    missed: Collection[str] = ()

    @property
    def in_progress(self) -> Iterator[Classified]:
        """The calls that have not ended."""
        return (each for each in self.calls if each.call.is_in_progress)

    @property
    def _missed(self) -> Iterator[Classified]:
        return (each for each in self.calls if each.call.id in self.missed)

    @property
    def known_since(self) -> float:
        """When the first known, unaltered call was created: then Vapi's list has what calls are
        known by. Without such a call, never.
        """
        known = (each for each in self.calls if each.is_known and not each.is_altered)
        return next((each.call.created_at for each in known), inf)

    @cached_property
    def _long_callers(self) -> list["_LongCaller"]:
        """The patients whose calls last for longer than a day's minutes."""
        if self.limits.minutes is None:
            return []
        return [
            _LongCaller(patient, calls, self._usage(calls))
            for patient, calls in _by_patient(self.calls).items()
            if sum(each.call.seconds(self.now) for each in calls) >= self.allowed_seconds
        ]

    def _usage(self, calls: Iterable[Classified]) -> "Usage":
        return Usage([(each.call.began_at, each.call.last_moment(self.now)) for each in calls])

    @property
    def allowed_seconds(self) -> float:
        """How long a patient's calls may last in 24 hours."""
        return 60.0 * (self.limits.minutes or inf)

    def used_up(self) -> dict[str, float]:
        """Return the patients whose minutes are used up, and when some are free again."""
        return {
            each.patient: each.usage.free_at(self.now, self.allowed_seconds)
            for each in self._long_callers
            if each.usage.seconds(self.now) >= self.allowed_seconds
        }

    def beyond_minutes(self) -> Iterator[Classified]:
        """Yield the calls in which the minutes were used up, and those that began afterwards."""
        for caller in self._long_callers:
            for each in caller.calls:
                moments = (each.call.began_at, each.call.last_moment(self.now))
                if any(caller.usage.seconds(at) >= self.allowed_seconds for at in moments):
                    yield each

    def beyond_limit(self) -> Iterator[Classified]:
        """Yield the oldest calls of patients who have more at once than allowed."""
        if (allowed := self.limits.active) is None:
            return
        for calls in _by_patient(self.in_progress).values():
            active = [each for each in calls if each.call.id not in self.ending]
            yield from _oldest(active, allowed)
        patients = {each.patient for each in self._missed}
        for calls in _by_patient(each for each in self.calls if each.patient in patients).values():
            yield from self._missed_beyond(allowed, calls)

    def _missed_beyond(self, allowed: int, calls: Iterable[Classified]) -> Iterator[Classified]:
        """Yield the missed calls of a patient that were among the oldest when another began."""
        active: list[Classified] = []
        for new in sorted(calls, key=lambda each: each.call.began_at):
            began = new.call.began_at
            active = [each for each in active if each.call.last_moment(self.now) > began]
            active.append(new)
            yield from (each for each in _oldest(active, allowed) if each.call.id in self.missed)

    def of_revoked(self) -> Iterator[Classified]:
        """Yield the calls of revoked patients that are in progress, or were until just now."""
        current = chain(self.in_progress, self._missed)
        return (each for each in current if each.patient in self.revoked)


def _oldest(calls: Sequence[Classified], allowed: int) -> Sequence[Classified]:
    """Return the calls beyond the number that is allowed."""
    return calls[: max(0, len(calls) - allowed)]


def _by_patient(calls: Iterable[Classified]) -> dict[str, list[Classified]]:
    found: dict[str, list[Classified]] = {}
    for each in calls:
        if each.patient is not None:
            found.setdefault(each.patient, []).append(each)
    return found


class _LongCaller(NamedTuple):
    patient: str
    calls: Sequence[Classified]
    usage: "Usage"


class Usage:
    """How long a patient's calls have lasted, by when they began and ended (seconds)."""

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        self._zero = min(start for start, _ in spans)  # small numbers keep their milliseconds
        self._starts = self._sums(start for start, _ in spans)
        self._ends = self._sums(max(start, end) for start, end in spans)

    def _sums(self, times: Iterable[float]) -> tuple[list[float], list[float]]:
        """Return the times in order, and the sum of the first n of them for each n."""
        ordered = sorted(time - self._zero for time in times)
        return ordered, list(accumulate(ordered, initial=0.0))

    def seconds(self, at: float) -> float:
        """Return how many seconds of calls are in the 24 hours before a time."""
        return round(self._before(at) - self._before(at - DAY_SECONDS), 3)

    def _before(self, at: float) -> float:
        began, ended = (_since(times, at - self._zero) for times in (self._starts, self._ends))
        return began - ended

    def free_at(self, now: float, seconds: float) -> float:
        """Return when less than `seconds` are used if no call goes on: to the second, not early."""
        moments = range(1, DAY_SECONDS + 1)
        first = bisect_left(moments, True, key=lambda after: self.seconds(now + after) < seconds)
        return now + moments[first]


def _since(times: tuple[list[float], list[float]], at: float) -> float:
    """Return how many seconds have passed since the times before `at`, in all."""
    ordered, sums = times
    count = bisect_right(ordered, at)
    return count * at - sums[count]


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
    """Return False: the `ends` of a rule that only tells."""
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
    Rule("revoked", View.of_revoked, ends=_always),
    # The oldest: an app that has crashed can call again at once.
    Rule("active", View.beyond_limit, ends=_always),
    # New sessions are refused; a call in progress goes on, Vapi's maxDurationSeconds bounds it.
    Rule("minutes", View.beyond_minutes, ends=never),
]
"""The order of the events of one call."""

UNREADABLE: Final = "unreadable"
"""The rule of calls that cannot be read: they are told, and there is nothing to judge or end."""

"""The rules, and how the minutes of a patient are counted."""

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.calls.rules import RULES, Classified, Limits, Usage, View, parse_limits
from server.vapi.web_call import WebCall

NOW = 1_000_000.0
HOUR = 3600


def call(
    call_id: str, began: float, seconds: float | None, patient: str | None = "pt_1"
) -> Classified:
    """Return a known call that began before `NOW`; None seconds: in progress."""
    at = NOW - began
    web_call = WebCall(
        id=call_id,
        status="in-progress" if seconds is None else "ended",
        created_at=at - 5,
        updated_at=at,
        started_at=at,
        ended_at=None if seconds is None else at + seconds,
    )
    known = patient is not None
    return Classified(web_call, patient, None, True, known, False, False)


NO_LIMITS = Limits()


def view(*calls: Classified, limits: Limits = NO_LIMITS, **ids: set[str]) -> View:
    return View(calls, NOW, limits, revoked={"pt_9"}, **ids)


def found(made: View) -> dict[str, list[str]]:
    broken = {rule.name: [each.call.id for each in rule.find(made)] for rule in RULES}
    return {name: ids for name, ids in broken.items() if ids}


def test_limits() -> None:
    assert parse_limits(()) == Limits()
    assert parse_limits(("minutes:30/day", "active:2")) == Limits(2, 30)


def test_table_of_the_rules() -> None:
    ours = call("1", 60, None)
    others = Classified(ours.call, None, None, False, False, False, False)
    assert [(r.name, r.ends(ours), r.ends(others), r.needs_known_call) for r in RULES] == [
        ("unknown", True, False, True),
        ("altered", True, True, True),
        ("reused", False, False, False),
        ("revoked", True, True, False),
        ("active", True, True, False),
        ("minutes", False, False, False),
    ]


def test_calls_without_limits_break_none() -> None:
    assert found(view(call("1", 60, None), call("2", 50, None))) == {}


def test_revoked_patients_calls_in_progress() -> None:
    calls = [call("1", 60, None, "pt_9"), call("2", 60, 5, "pt_9"), call("3", 60, None, None)]
    assert found(view(*calls)) == {"revoked": ["1"], "unknown": ["3"]}


def test_oldest_calls_beyond_the_limit() -> None:
    calls = [call("1", 90, None), call("2", 80, 5), call("3", 70, None), call("4", 60, None)]
    assert found(view(*calls, limits=Limits(active=1))) == {"active": ["1", "3"]}
    assert found(view(*calls, limits=Limits(active=1), ending={"3"})) == {"active": ["1"]}
    assert found(view(*calls, limits=Limits(active=3))) == {}


def test_calls_that_began_and_ended_between_two_readings() -> None:
    calls = [
        call("seen", 99, 29),
        call("oldest", 90, 30),
        call("between", 80, 19),
        call("newest", 70, 50),
        call("later", 60, 5),
        call("of another", 65, 50, "pt_2"),
        call("in progress", 10, None),
        call("revoked", 60, 30, "pt_9"),
    ]
    missed = {each.call.id for each in calls} - {"seen", "in progress"}
    broken = found(view(*calls, limits=Limits(active=2), missed=missed))
    assert broken == {"active": ["oldest"], "revoked": ["revoked"]}
    broken = found(view(*calls, limits=Limits(active=1), missed=missed))
    assert set(broken["active"]) == {"oldest", "between", "newest"}


@pytest.mark.parametrize(
    ("calls", "free_after"),
    [
        # 30 minutes from 23.5 hours ago: the first second leaves the day in half an hour.
        ([call("1", 23.5 * HOUR, 1800)], 1800 + 1),
        # 40 minutes: more than ten of them must have left.
        ([call("1", 23.5 * HOUR, 2400)], 1800 + 600 + 1),
        # Of a call that began before the day, only the part inside counts.
        ([call("1", 24.5 * HOUR, HOUR)], 1),
        # Two at once: both count.
        ([call("1", 2 * HOUR, 900), call("2", 2 * HOUR, 900)], 22 * HOUR + 1),
        # In progress: as if it ended now.
        ([call("1", 1800, None)], 23.5 * HOUR + 1),
    ],
)
def test_minutes_that_are_used_up(calls: list[Classified], free_after: float) -> None:
    made = view(*calls, limits=Limits(minutes=30))
    assert made.used_up() == {"pt_1": pytest.approx(NOW + free_after, abs=1)}
    free_at = made.used_up()["pt_1"]
    spans = [(each.call.began_at, each.call.last_moment(NOW)) for each in calls]
    usage = Usage(spans)
    assert usage.seconds(free_at) < 1800 <= usage.seconds(free_at - 1)


@given(st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 5000)), min_size=1, max_size=12))
def test_usage_is_the_sum_of_the_parts_inside_a_day(calls: list[tuple[int, int]]) -> None:
    spans = [(NOW + start / 10, NOW + start / 10 + seconds / 10) for start, seconds in calls]
    usage = Usage(spans)
    for at in (NOW, NOW + 10_000, NOW + 20_000, NOW + 100_000):
        parts = [max(0.0, min(end, at) - max(start, at - 86400)) for start, end in spans]
        assert usage.seconds(at) == pytest.approx(sum(parts), abs=0.01)


def test_many_calls_of_a_patient_cost_little() -> None:
    many = [call(str(n), 80_000 - n * 10, 5) for n in range(5000)]
    began = process_time()
    assert len(found(view(*many, limits=Limits(minutes=30)))["minutes"]) == 4641
    assert process_time() - began < 1


def test_minutes_that_are_left() -> None:
    calls = [call("1", HOUR, 1799), call("2", 26 * HOUR, HOUR), call("3", HOUR, 1800, None)]
    assert view(*calls, limits=Limits(minutes=30)).used_up() == {}


def test_calls_beyond_the_minutes_also_when_they_have_ended() -> None:
    calls = [
        call("before", 5000, 1700),
        call("uses them up", 3000, 100),
        call("short, afterwards", 2000, 5),
        call("in progress", 60, None),
        call("of another", 60, 30, "pt_2"),
    ]
    broken = found(view(*calls, limits=Limits(minutes=30)))
    assert broken == {"minutes": ["uses them up", "short, afterwards", "in progress"]}
    # Begun when the first minutes of the day were free again.
    calls = [call("long", 26 * HOUR, 1800), call("later", 1 * HOUR, 600)]
    assert found(view(*calls, limits=Limits(minutes=30))) == {"minutes": ["long"]}


def test_end_that_vapi_does_not_date_is_its_last_change() -> None:
    ended = WebCall(id="1", status="ended", created_at=NOW - 60, updated_at=NOW - 20)
    assert ended.seconds(NOW) == 40

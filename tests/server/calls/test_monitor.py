"""The call monitor in the service, with the stand-in for Vapi: events, ends, limits, failures."""

import asyncio
import ctypes
import gc
import hashlib
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from time import time
from typing import Any

import pytest
from aiohttp import web

from middlewares.context import rfc3339
from rig.redis_server import RedisServer
from rig.service import ASSISTANT_ID, Service, claims, make_settings, running, sign
from rig.vapi import StandIn, vapi
from rig.waiting import eventually, until
from sandbox.vapi.behaviour import Behaviour, Fault
from sandbox.vapi.call_list import CALL_LIST, CALLS
from server.calls import reader
from server.calls.judge import Judge, MonitorNumbers
from server.calls.monitor import CallMonitor
from server.http_client import make_session
from server.policies.call_limits import CallLimits, CallState, SharedCalls, Snapshot
from server.policies.revocations import CLEAR_NAMES
from server.redis.client import RedisState
from server.vapi.call_api import CallApi
from tests.calls import CALL_VARIABLES, call, long_calls, proof
from tests.conftest import AuditLines
from tests.revocation_keys import patient_key
from tests.server.calls.test_rules import call as a_call
from tests.server.redis.support import reaches
from tests.server.redis.support import running as redis_client

READINGS = "vapi_sessions_call_readings_total"
INTERVAL = 0.05
INTERVAL_WITH_REDIS = 0.2  # a lease is three intervals long


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with vapi(calls=long_calls()) as running_:
        yield running_


@dataclass
class Monitored:
    """The service with its monitor, and the events so far."""

    service: Service
    read_lines: AuditLines
    interval: float = INTERVAL
    lines: list[dict[str, Any]] = field(default_factory=list)

    def events(self, *names: str) -> list[dict[str, Any]]:
        self.lines += self.read_lines()
        return [line for line in self.lines if line["event"] in names]

    def flagged(self) -> set[tuple[str, str, str]]:
        """Return call, rule and action of the events so far."""
        found = self.events("vapi_call_flagged")
        return {(each["call_id"], each["rule"], each["action"]) for each in found}

    async def part(self) -> str:
        answer = await self.service.ask("GET", "/readyz")
        parts = answer.json["parts"]
        is_sound = all(part in {"up", "off", "ready"} for part in parts.values())
        assert (answer.json["status"] == "ready") == is_sound
        return str(answer.json["parts"]["calls"])

    async def becomes(self, state: str) -> None:
        """Wait for a state of the part `calls`."""

        async def check() -> bool:
            return await self.part() == state

        await eventually(check, seconds=20)

    async def code(self, patient: str = "pt_1") -> tuple[str | None, str | None]:
        """Start a session; return the code of the error and Retry-After."""
        answer = await self.service.start(sign(claims(id=patient)))
        return answer.code, answer.response.headers.get("Retry-After")

    async def intervals(self, count: int) -> None:
        """Wait while the list cannot be read."""
        await asyncio.sleep(count * self.interval)

    async def readings(self, count: int) -> None:
        """Wait until the list has been read this often, and what was read has been judged."""
        until = await self.metric(READINGS) + count + 1

        async def are_done() -> bool:
            return await self.metric(READINGS) >= until

        await eventually(are_done, seconds=20)

    async def metric(self, name: str) -> float:
        answer = await self.service.ask("GET", "/metrics")
        lines = answer.body.decode().splitlines()
        return next(float(each.split()[-1]) for each in lines if each.startswith(name + " "))


@asynccontextmanager
async def monitoring(
    stand_in: StandIn,
    read_lines: AuditLines,
    mode: str = "enforce",
    **variables: str,
) -> AsyncIterator[Monitored]:
    """Run the service with its monitor, which has read the list once."""
    fixed = {**CALL_VARIABLES, "VAPI_BASE_URL": stand_in.url, "METRICS_ENABLED": "true"}
    settings = make_settings(**{**fixed, "CALL_MONITOR": mode, "RATE_LIMIT": "off", **variables})
    interval = INTERVAL_WITH_REDIS if settings.redis_url else INTERVAL
    async with running(replace(settings, call_monitor_seconds=interval)) as service:
        monitored = Monitored(service, read_lines, interval)
        await monitored.becomes("up")
        yield monitored


async def test_enforce_ends_what_breaks_a_rule(
    stand_in: StandIn, audit_lines: AuditLines, redis_server: RedisServer
) -> None:
    limits = {"CALL_LIMITS": "active:1", "REDIS_URL": redis_server.url}
    async with monitoring(stand_in, audit_lines, **limits) as monitored:
        known = await call(stand_in, proof("pt_1", "one"))
        unknown = await call(stand_in)
        altered = await call(stand_in, proof("pt_2"), firstMessage="Hello, I am another")
        reused = await call(stand_in, proof("pt_1", "one"))
        first, second = await call(stand_in, proof("pt_3")), await call(stand_in, proof("pt_3"))
        await redis_server.execute("SET", patient_key("pt_4"), "1")
        revoked = await call(stand_in, proof("pt_4"))
        expected = {
            (unknown, "unknown", "ended"),
            (altered, "altered", "ended"),
            (reused, "reused", "none"),
            (known, "active", "ended"),
            (first, "active", "ended"),
            (revoked, "revoked", "ended"),
        }
        await until(lambda: monitored.flagged() == expected)
        assert stand_in.app[CALLS].active == {reused, second}
        ended = {known, unknown, altered, first, revoked}
        await until(lambda: len(monitored.events("vapi_call_ended")) == len(ended))
        assert {each["call_id"] for each in monitored.events("vapi_call_ended")} == ended
        assert len(monitored.events("vapi_call_started")) == 7
        assert await monitored.metric('vapi_sessions_calls_ended_total{rule="active"}') == 2
        assert await monitored.metric('vapi_sessions_calls_flagged_total{rule="unknown"}') == 1
        assert await monitored.metric("vapi_sessions_calls_in_progress") == 2


async def test_report_only_tells(
    stand_in: StandIn, audit_lines: AuditLines, redis_server: RedisServer
) -> None:
    limits = {"CALL_LIMITS": "active:1, minutes:1/day", "REDIS_URL": redis_server.url}
    long_ago = time() - 600
    async with monitoring(stand_in, audit_lines, "report", **limits) as monitored:
        stand_in.app[CALL_LIST].more = [entry("past", long_ago, proof("pt_3", iat=long_ago))]
        unknown = await call(stand_in)
        altered = await call(stand_in, proof("pt_2"), firstMessage="Hello, I am another")
        first, second = await call(stand_in, proof("pt_1")), await call(stand_in, proof("pt_1"))
        await redis_server.execute("SET", patient_key("pt_2"), "1")
        expected = {
            (unknown, "unknown", "none"),
            (altered, "altered", "none"),
            (altered, "revoked", "none"),
            (first, "active", "none"),
            ("past", "minutes", "none"),
        }
        await until(lambda: monitored.flagged() == expected)
        await monitored.readings(3)
        assert monitored.flagged() == expected
        assert stand_in.app[CALLS].active == {unknown, altered, first, second}
        assert await monitored.code("pt_3") == (None, None)


async def test_calls_that_are_seen_only_after_their_end(
    stand_in: StandIn, audit_lines: AuditLines, redis_server: RedisServer
) -> None:
    limits = {"CALL_LIMITS": "active:1", "REDIS_URL": redis_server.url}
    await redis_server.execute("SET", patient_key("pt_2"), "1")
    began = time() - 60
    first, second, third, of_revoked = (
        entry(name, began + after, proof(patient, iat=began), seconds=10)
        for name, patient, after in (
            ("first", "pt_1", 0),
            ("second", "pt_1", 5),
            ("third", "pt_1", 20),
            ("of revoked", "pt_2", 0),
        )
    )
    before = [
        entry("before", began, proof("pt_2", iat=began), seconds=10),
        *(entry(f"before {n}", began, proof("pt_3", iat=began), seconds=10) for n in range(2)),
    ]
    stand_in.app[CALL_LIST].more = before
    async with monitoring(stand_in, audit_lines, **limits) as monitored:
        stand_in.app[CALL_LIST].more = [*before, first, second, third, of_revoked]
        await until(lambda: len(monitored.events("vapi_call_ended")) == 7)
        expected = {("first", "active", "none"), ("of revoked", "revoked", "none")}
        await until(lambda: monitored.flagged() == expected)
        await monitored.readings(2)
        assert monitored.flagged() == expected


def entry(
    call_id: str, created: float, token: str | None, seconds: float = 0, **more: Any
) -> dict[str, Any]:
    """Return a call that the list has in addition: in progress, or ended after `seconds`."""
    began = rfc3339(created)
    made = {
        "id": call_id,
        "type": "webCall",
        "status": "in-progress",
        "createdAt": began,
        "updatedAt": began,
        "startedAt": began,
        "assistantId": ASSISTANT_ID,
        "assistantOverrides": {"variableValues": {"patientProof": token}} if token else {},
    }
    if seconds:
        ended_at = rfc3339(created + seconds)
        made |= {"status": "ended", "endedAt": ended_at, "updatedAt": ended_at}
    return {**made, **more}


async def test_minutes_that_are_used_up(stand_in: StandIn, audit_lines: AuditLines) -> None:
    now = time()
    began = now - 3600
    stand_in.app[CALL_LIST].more = [
        entry("long", began, proof("pt_1", iat=began), seconds=1800),
        entry("short", began, proof("pt_2", iat=began), seconds=1799.5),
    ]
    async with monitoring(stand_in, audit_lines, CALL_LIMITS="minutes:30/day") as monitored:
        code, wait = await monitored.code("pt_1")
        assert code == "CALL_LIMIT_REACHED"
        # The call began an hour ago: its first second is free again 23 hours from now.
        assert int(wait or 0) == pytest.approx(23 * 3600, abs=5)
        assert await monitored.code("pt_2") == (None, None)
        going_on = await call(stand_in, proof("pt_2"))
        used_up = {("long", "minutes", "none"), (going_on, "minutes", "none")}
        await until(lambda: monitored.flagged() == used_up)
        assert (await monitored.code("pt_2"))[0] == "CALL_LIMIT_REACHED"
        assert going_on in stand_in.app[CALLS].active
        stand_in.app[CALL_LIST].status = 503
        await monitored.becomes("degraded")
        assert (await monitored.code("pt_1"))[0] == "CALL_LIMIT_REACHED"
        assert await monitored.code("pt_3") == (None, None)


async def test_events(stand_in: StandIn, audit_lines: AuditLines) -> None:
    began = round(time() - 3600, 3)
    many = {f"{number}-" + "\u0001" * 80: 1 for number in range(40)}
    stand_in.app[CALL_LIST].more = [
        entry("1", began, proof("pt_1", "p1", iat=began), 61.5, endedReason="hung-up", cost=0.25),
        entry(
            "2",
            began,
            proof("pt_2", "p2", iat=began),
            60,
            assistantOverrides={
                "variableValues": {"patientProof": proof("pt_2", "p2", iat=began)},
                **many,
            },
        ),
    ]
    async with monitoring(stand_in, audit_lines, "report") as monitored:
        await until(lambda: len(monitored.flagged()) == 1)
        # An older answer does not bring a call back.
        going_on = entry("1", began, proof("pt_1", iat=began), updatedAt=rfc3339(time()))
        stand_in.app[CALL_LIST].more = [going_on]
        await monitored.readings(2)
        assert await monitored.metric("vapi_sessions_calls_in_progress") == 0
    started, *_ = monitored.events("vapi_call_started")
    about = {"call_id": "1", "patient": "pt_1", "proof_id": "p1", "assistant_id": ASSISTANT_ID}
    for line in monitored.lines:
        del line["seq"], line["instance"]
    assert started == {"event": "vapi_call_started", "timestamp": rfc3339(began), **about}
    ended, *_ = monitored.events("vapi_call_ended")
    assert ended == {
        "event": "vapi_call_ended",
        "timestamp": rfc3339(began + 61.5),
        **about,
        "seconds": 61.5,
        "ended_reason": "hung-up",
        "cost": 0.25,
    }
    (flagged,) = monitored.events("vapi_call_flagged")
    assert list(flagged) == [
        *("event", "timestamp", "call_id", "patient", "proof_id", "assistant_id"),
        *("rule", "overrides", "action"),
    ]
    assert (flagged["rule"], flagged["action"]) == ("altered", "none")
    names = flagged["overrides"]
    assert 1 <= len(names) < 16
    assert all(len(name) == 64 for name in names)


@pytest.mark.parametrize("fault", ["omit_overrides", "redact_overrides"])
async def test_brake(
    stand_in: StandIn, audit_lines: AuditLines, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    setattr(stand_in.app[CALL_LIST], fault, True)
    async with monitoring(stand_in, audit_lines) as monitored:
        known, unknown = await call(stand_in, proof()), await call(stand_in)
        held_back = {(known, "unknown", "none"), (unknown, "unknown", "none")}
        await until(lambda: monitored.flagged() == held_back)
        await monitored.readings(3)
        assert stand_in.app[CALLS].active == {known, unknown}
        assert caplog.text.count("unknown and altered calls are not ended") == 1
        assert await monitored.metric("vapi_sessions_calls_held_back") == 1
        # Vapi lists overrides again: calls that were reported go on, new ones are ended.
        setattr(stand_in.app[CALL_LIST], fault, False)
        await call(stand_in, proof("pt_2"))
        another = await call(stand_in)
        await until(lambda: (another, "unknown", "ended") in monitored.flagged())
        assert unknown in stand_in.app[CALLS].active
        assert await monitored.metric("vapi_sessions_calls_held_back") == 0


async def test_another_process_lets_reported_calls_go_on(
    stand_in: StandIn, audit_lines: AuditLines, redis_server: RedisServer
) -> None:
    redis = {"REDIS_URL": redis_server.url}
    async with monitoring(stand_in, audit_lines, **redis) as monitored:
        reported = await call(stand_in)
        await until(lambda: monitored.flagged() == {(reported, "unknown", "none")})
        await call(stand_in, proof())
        ended = await call(stand_in)
        await until(lambda: (ended, "unknown", "ended") in monitored.flagged())
    later = await call(stand_in)
    async with monitoring(stand_in, audit_lines, **redis) as monitored:
        await until(lambda: (later, "unknown", "ended") in monitored.flagged())
        assert (reported, "unknown", "none") in monitored.flagged()
        assert reported in stand_in.app[CALLS].active


async def test_memory_is_bounded(
    stand_in: StandIn, audit_lines: AuditLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_MAX_CALLS", 3)
    began = time() - 3600
    stand_in.app[CALL_LIST].more = [
        *(entry(f"ended {n}", began + n, proof(iat=began), seconds=60) for n in range(3)),
        *(entry(f"going on {n}", began + n, proof(iat=began)) for n in range(2)),
    ]
    async with monitoring(stand_in, audit_lines, "report") as monitored:
        started = {each["call_id"] for each in monitored.events("vapi_call_started")}
        assert started == {"ended 2", "going on 0", "going on 1"}


async def test_calls_before_the_first_reading_are_not_ended(
    stand_in: StandIn, audit_lines: AuditLines
) -> None:
    before = await call(stand_in)
    await call(stand_in, proof())
    async with monitoring(stand_in, audit_lines) as monitored:
        after = await call(stand_in)
        expected = {(before, "unknown", "none"), (after, "unknown", "ended")}
        await until(lambda: monitored.flagged() == expected)
        await monitored.readings(2)
        assert before in stand_in.app[CALLS].active


async def test_call_that_goes_on_after_its_end_was_accepted(
    stand_in: StandIn,
    audit_lines: AuditLines,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{__name__}.INTERVAL", 0.2)
    caplog.set_level(logging.INFO)
    async with monitoring(stand_in, audit_lines) as monitored:
        await call(stand_in, proof("pt_9"))
        stand_in.app[CALL_LIST].deaf = True
        altered = await call(stand_in, proof("pt_1"), firstMessage="Hello, I am another")
        await until(lambda: monitored.flagged() == {(altered, "altered", "ended")})
        assert await monitored.code("pt_1") == (None, None)

        async def is_refused() -> bool:
            return await monitored.code("pt_1") == ("CALL_LIMIT_REACHED", None)

        await eventually(is_refused)
        assert caplog.text.count(f"call {altered} cannot be ended") == 1
        assert await monitored.metric("vapi_sessions_calls_unendable") == 1
        assert await monitored.code("pt_2") == (None, None)
        stand_in.app[CALL_LIST].deaf = False
        await until(lambda: altered not in stand_in.app[CALLS].active)

        async def is_served() -> bool:
            return await monitored.code("pt_1") == (None, None)

        await eventually(is_served)
        assert f"call {altered}, which could not be ended, has ended" in caplog.text
        assert monitored.flagged() == {(altered, "altered", "ended")}


async def test_call_without_a_usable_control_address(
    stand_in: StandIn, audit_lines: AuditLines
) -> None:
    async with monitoring(stand_in, audit_lines) as monitored:
        await call(stand_in, proof("pt_9"))
        altered = {
            "variableValues": {"patientProof": proof("pt_1")},
            "monitorPlan": {"controlEnabled": False},
        }
        stand_in.app[CALL_LIST].more = [entry("1", time(), None, assistantOverrides=altered)]
        await until(lambda: monitored.flagged() == {("1", "altered", "failed")})

        async def is_refused() -> bool:
            return await monitored.code("pt_1") == ("CALL_LIMIT_REACHED", None)

        await eventually(is_refused)


async def test_address_that_hangs_holds_up_nothing(
    stand_in: StandIn, audit_lines: AuditLines
) -> None:
    released = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    hanging = web.Application()
    hanging.router.add_post("/1/control", hang)
    async with vapi(app=hanging) as other, monitoring(stand_in, audit_lines) as monitored:
        await call(stand_in, proof("pt_9"))
        monitor = {"controlUrl": f"{other.url}/1/control"}
        stand_in.app[CALL_LIST].more = [entry("1", time(), None, monitor=monitor)]
        await monitored.readings(2)
        unknown = await call(stand_in)
        began = time()
        await until(lambda: (unknown, "unknown", "ended") in monitored.flagged())
        assert time() - began < 3
        await monitored.becomes("up")
        released.set()


async def test_list_that_fails(
    stand_in: StandIn, audit_lines: AuditLines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    failures: list[tuple[str, Callable[[], None]]] = [
        ("status 503", lambda: setattr(stand_in.app[CALL_LIST], "status", 503)),
        ("status 429", lambda: setattr(stand_in.app[CALL_LIST], "status", 429)),
        ("the answer is not HTTP", lambda: stand_in.behave(Behaviour(Fault.JUNK))),
        ("the connection", lambda: stand_in.behave(Behaviour(Fault.RESET))),
    ]
    async with monitoring(stand_in, audit_lines) as monitored:
        assert "read again" not in caplog.text
        for text, break_it in failures:
            caplog.clear()
            break_it()
            await monitored.becomes("degraded")
            failed = await monitored.metric("vapi_sessions_call_reading_failures_total")
            await monitored.intervals(5)
            assert await monitored.code() == (None, None)
            assert await monitored.metric("vapi_sessions_call_monitor_up") == 0
            assert caplog.text.count(f"Vapi's calls cannot be read ({text}") == 1
            if text != "status 429":
                more = await monitored.metric("vapi_sessions_call_reading_failures_total")
                assert more > failed
            stand_in.app[CALL_LIST].status = 200
            stand_in.behave(Behaviour())
            await monitored.becomes("up")
            assert caplog.text.count("Vapi's calls are read again") == 1


async def test_rate_limit_of_vapi_is_honoured(stand_in: StandIn, audit_lines: AuditLines) -> None:
    async with monitoring(stand_in, audit_lines) as monitored:
        stand_in.app[CALL_LIST].status = 429
        stand_in.app[CALL_LIST].retry_after = 60
        await monitored.becomes("degraded")
        asked = len(stand_in.requests)
        await monitored.intervals(5)
        assert len(stand_in.requests) == asked


async def test_list_that_lags_and_loses_updates(stand_in: StandIn, audit_lines: AuditLines) -> None:
    faults = stand_in.app[CALL_LIST]
    faults.junk = faults.lose_updates = True
    faults.lag = 1.5
    async with monitoring(stand_in, audit_lines) as monitored:
        known = await call(stand_in, proof())
        unknown = await call(stand_in)
        await until(lambda: monitored.flagged() == {(unknown, "unknown", "ended")})
        stand_in.app[CALLS].end(known, "customer-ended-call")
        ended = {known, unknown}
        await until(
            lambda: {each["call_id"] for each in monitored.events("vapi_call_ended")} == ended
        )
        await monitored.readings(7)
        assert await monitored.metric("vapi_sessions_calls_unendable") == 0
        assert await monitored.metric("vapi_sessions_calls_in_progress") == 0


async def test_end_that_is_only_seen_when_a_call_is_read_again(
    stand_in: StandIn, audit_lines: AuditLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_OVERLAP_SECONDS", 0.1)
    monkeypatch.setattr(reader, "_MAX_LAG_SECONDS", 0.1)
    stand_in.app[CALL_LIST].lose_updates = True
    async with monitoring(stand_in, audit_lines) as monitored:
        known = await call(stand_in, proof())
        await until(lambda: len(monitored.events("vapi_call_started")) == 1)
        await monitored.readings(10)
        stand_in.app[CALLS].end(known, "customer-ended-call")
        await until(lambda: len(monitored.events("vapi_call_ended")) == 1)


async def test_call_that_the_list_forgets(
    stand_in: StandIn, audit_lines: AuditLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_MAX_MISSES", 2)
    async with monitoring(stand_in, audit_lines) as monitored:
        stand_in.app[CALL_LIST].more = [entry("1", time(), proof())]

        async def are_in_progress(count: int) -> bool:
            return await monitored.metric("vapi_sessions_calls_in_progress") == count

        await eventually(partial(are_in_progress, 1), seconds=30)
        stand_in.app[CALL_LIST].more = []
        await eventually(partial(are_in_progress, 0), seconds=30)


async def test_calls_that_are_not_ours(stand_in: StandIn, audit_lines: AuditLines) -> None:
    async with monitoring(stand_in, audit_lines) as monitored:
        await call(stand_in, proof("pt_9"))
        stand_in.app[CALL_LIST].more = [
            entry("telephone", time(), None, type="inboundPhoneCall"),
            entry("other", time(), None, assistantId="66666666-6666-4666-8666-666666666666"),
            entry("squad", time(), None, assistantId=None, squadId="7"),
        ]
        await until(lambda: monitored.flagged() == {("squad", "unknown", "none")})


async def test_call_that_cannot_be_read(
    stand_in: StandIn, audit_lines: AuditLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.vapi.call_api._PAGE_BYTES", 2**18)
    monkeypatch.setattr("server.vapi.web_call._LARGE_BYTES", 2**17)
    async with monitoring(stand_in, audit_lines) as monitored:
        large = {"transcript": "x" * 2**19}
        stand_in.app[CALL_LIST].more = [entry("1", time(), proof(), artifact=large)]
        await until(lambda: monitored.flagged() == {("1", "unreadable", "none")})
        await monitored.readings(1)
        asked, before = len(stand_in.requests), await monitored.metric(READINGS)
        await monitored.readings(4)
        readings = await monitored.metric(READINGS) - before
        assert len(stand_in.requests) - asked <= 3 * (readings + 1)
        (flagged,) = monitored.events("vapi_call_flagged")
        assert flagged["patient"] is flagged["assistant_id"] is flagged["overrides"] is None


async def test_without_redis_sessions_go_on(
    stand_in: StandIn, audit_lines: AuditLines, redis_server: RedisServer
) -> None:
    limits = {"REDIS_URL": redis_server.url, "REDIS_FAILURE": "serve"}
    async with monitoring(stand_in, audit_lines, **limits) as monitored:
        await call(stand_in, proof("pt_9"))
        await redis_server.stop()
        await monitored.becomes("degraded")
        assert await monitored.code() == (None, None)
        unknown = await call(stand_in)
        await monitored.intervals(3)
        assert unknown in stand_in.app[CALLS].active
        await redis_server.start()
        await monitored.becomes("up")
        await until(lambda: (unknown, "unknown", "ended") in monitored.flagged())


async def test_redis_that_rejects_a_command_of_the_monitor_is_told_once(
    stand_in: StandIn,
    audit_lines: AuditLines,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with monitoring(stand_in, audit_lines, REDIS_URL=redis_server.url) as monitored:
        caplog.set_level("WARNING", "server.calls")
        for _ in range(2):
            await redis_server.execute("ACL", "SETUSER", "default", "-get")
            await monitored.becomes("degraded")
            await monitored.intervals(4)
            await redis_server.execute("ACL", "SETUSER", "default", "+get")
            await monitored.becomes("up")
    assert [each.split(" (")[0] for each in caplog.messages] == [
        "Redis rejects what the call monitor needs"
    ] * 2


async def test_two_services(
    stand_in: StandIn, audit_lines: AuditLines, redis_server: RedisServer
) -> None:
    began = time() - 3600
    stand_in.app[CALL_LIST].more = [entry("past", began, proof(iat=began), seconds=1800)]
    settings = {"REDIS_URL": redis_server.url, "REDIS_FAILURE": "serve"}
    settings["CALL_LIMITS"] = "minutes:30/day"
    async with (
        monitoring(stand_in, audit_lines, **settings) as leading,
        monitoring(stand_in, audit_lines, **settings) as following,
    ):
        both = (leading, following)
        for each in both:
            assert (await each.code())[0] == "CALL_LIMIT_REACHED"
        await redis_server.stop()
        for each in both:
            await each.becomes("degraded")
            assert (await each.code())[0] == "CALL_LIMIT_REACHED"
            assert await each.code("pt_2") == (None, None)
        await redis_server.start()
        for each in both:
            await each.becomes("up")
        stand_in.app[CALL_LIST].status = 503
        for each in both:
            await each.becomes("degraded")


async def test_service_that_loses_its_lease(
    stand_in: StandIn, audit_lines: AuditLines, redis_server: RedisServer
) -> None:
    async with monitoring(stand_in, audit_lines, REDIS_URL=redis_server.url) as monitored:
        await redis_server.execute("SET", "{vapi-sessions}:calls:lease", "another process")
        await monitored.intervals(3)
        asked = len(stand_in.requests)
        unknown = await call(stand_in)
        await monitored.intervals(3)
        assert unknown in stand_in.app[CALLS].active
        assert len(stand_in.requests) == asked + 1  # the call itself


async def test_call_is_not_ended_without_the_lease() -> None:
    async def is_lost() -> bool:
        return False

    settings = make_settings(**CALL_VARIABLES, CALL_MONITOR="enforce")
    async with make_session(settings) as session:
        judge = Judge(
            settings,
            lambda _: None,
            api=CallApi(settings),
            session=session,
            write=lambda _: None,
            numbers=MonitorNumbers(),
            may_act=is_lost,
        )
        judge.endings.begin(a_call("1", 60, None), "altered")
        await asyncio.sleep(0)
        assert (judge.endings.accepted, judge.endings.unendable) == ([], [])


async def test_reading_during_which_the_lease_was_lost_is_not_judged(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    await call(stand_in, proof())
    settings = make_settings(**CALL_VARIABLES, CALL_MONITOR="enforce", VAPI_BASE_URL=stand_in.url)
    events: list[object] = []
    monitor = CallMonitor(
        settings,
        limits=CallLimits(CLEAR_NAMES),
        write=events.append,
        redis=None,
        revocations=None,
    )
    holds = [True, False, True, True]

    async def may_act() -> bool:
        return holds.pop(0)

    monkeypatch.setattr(monitor, "_may_act", may_act)
    async with make_session(settings) as session:
        judge = monitor._make_judge(session)
        await monitor._turn(judge, session)
        assert events == []
        await monitor._turn(judge, session)
        assert len(events) == 1


async def test_state_that_is_old_or_missing(stand_in: StandIn, redis_server: RedisServer) -> None:
    lease, interval = "{vapi-sessions}:calls:lease", INTERVAL_WITH_REDIS
    await redis_server.execute("SET", lease, "another process")
    variables = {"VAPI_BASE_URL": stand_in.url, "REDIS_URL": redis_server.url}
    settings = make_settings(**CALL_VARIABLES, **variables, CALL_MONITOR="enforce")
    async with (
        running(replace(settings, call_monitor_seconds=interval)) as service,
        redis_client(redis_server.url) as redis,
    ):
        monitored, shared = Monitored(service, list, interval), SharedCalls(redis)
        await reaches(redis, RedisState.UP)
        await monitored.intervals(3)
        assert await monitored.part() == "degraded"
        junk = hashlib.sha256(b"[]").hexdigest() + "[]"
        await redis_server.execute("SET", "{vapi-sessions}:calls:state", junk)
        await monitored.intervals(3)
        assert await monitored.part() == "degraded"
        used_up = {f"patient:pt_{number}": time() + 600 for number in range(3000)}
        for at, state in ((time() + 60, "up"), (time() - 60, "degraded"), (time() + 60, "up")):
            await shared.publish(Snapshot(CallState(used_up), at))
            await monitored.becomes(state)
            assert (await monitored.code("pt_2999"))[0] == "CALL_LIMIT_REACHED"
        await redis_server.execute("DEL", lease)

        async def is_served() -> bool:
            return await monitored.code("pt_2999") == (None, None)

        await eventually(is_served)
        assert "GET /call" in stand_in.requests


async def test_transcripts_are_nowhere(
    stand_in: StandIn,
    audit_lines: AuditLines,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    mark = f"M4RK-{time()}"
    stand_in.app[CALL_LIST].transcript = f"Doctor, {mark} hurts. " * 1000
    held = id(stand_in.app[CALL_LIST].transcript)
    prctl(PR_SET_DUMPABLE, 1)
    async with monitoring(stand_in, audit_lines, REDIS_URL=redis_server.url) as monitored:
        await call(stand_in, proof("pt_1"))
        unknown = await call(stand_in)
        await until(lambda: (unknown, "unknown", "ended") in monitored.flagged())
        await monitored.readings(2)
        metrics = await monitored.service.ask("GET", "/metrics")
        keys = (await redis_server.execute("KEYS", "*")).split()
        kinds = {key: await redis_server.execute("TYPE", key) for key in keys}
        values = [await redis_server.execute("GET", key) for key in keys if kinds[key] == "string"]
        texts = [metrics.body.decode(), caplog.text, *keys, *values]
        assert not any(mark in text for text in [*texts, *map(str, monitored.lines)])
        assert marked_objects(mark, held) == []
        assert prctl(PR_GET_DUMPABLE, 0) == 0  # no core dumps
        prctl(PR_SET_DUMPABLE, 1)


PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4


def prctl(option: int, value: int) -> int:
    return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0))


def marked_objects(mark: str, except_for: int) -> list[object]:
    """Return the live texts that contain a mark, except the test's own and what Vapi answers."""
    gc.collect()
    found: list[object] = []
    for container in gc.get_objects():
        if isinstance(container, web.Response):
            continue
        for each in gc.get_referents(container):
            is_text = isinstance(each, str | bytes | bytearray) and len(each) > 100
            if is_text and (mark if isinstance(each, str) else mark.encode()) in each:
                found.append(each)
    return [each for each in found if id(each) != except_for]


def test_off_costs_nothing() -> None:
    program = (
        "import sys; from rig.service import make_settings; from server.app import create_app;"
        "create_app(make_settings());"
        "print([name for name in sys.modules if name.startswith('server.calls')])"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"[]\n"

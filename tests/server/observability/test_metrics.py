"""The metrics of a single process, and what it records for other processes."""

import asyncio
import math
from importlib.metadata import version
from pathlib import Path
from time import sleep

import pytest
from aiohttp import web

from middlewares.headers import ResponseFacts
from rig.service import PATH, claims, sign
from server.observability.measurements import EventCount, RecentMaximum
from server.observability.metrics import Metrics
from tests.conftest import Serve
from tests.server.test_component_metrics import samples


async def test_responses_are_counted_by_status_and_code(serve: Serve) -> None:
    service = await serve(METRICS_ENABLED="true", RATE_LIMIT="2/hour")
    for token in (sign(), sign(), sign(), sign(claims(exp=1)), None):
        await service.start(token)
    for path in ("/healthz", "/readyz", "/metrics", "/nowhere"):
        await service.ask("GET", path)
    assert (await service.ask("GET", PATH)).status == 405
    found = samples((await service.ask("GET", "/metrics")).body)
    assert {name: value for name, value in found.items() if name[0] == "requests_total"} == {
        ("requests_total", "", "", "session", "200"): 2,
        ("requests_total", "RATE_LIMITED", "", "session", "429"): 1,
        ("requests_total", "AUTH_TOKEN_EXPIRED", "expired", "session", "401"): 1,
        ("requests_total", "AUTH_TOKEN_MISSING", "missing", "session", "401"): 1,
        ("requests_total", "METHOD_NOT_ALLOWED", "", "session", "405"): 1,
        ("requests_total", "", "", "operations", "200"): 3,
        ("requests_total", "NOT_FOUND", "", "other", "404"): 1,
    }
    counts = {name[1]: value for name, value in found.items() if name[0] == "request_seconds_count"}
    assert counts == {"session": 6, "operations": 3, "other": 1}
    assert found["request_seconds_bucket", "3.0", "session"] == 6  # the default budget
    assert found["build_info", version("vapi-sessions")] == 1
    assert found["process_resident_memory_bytes",] > 0
    assert "pt_1" not in str(found)


async def test_lag_of_the_event_loop_is_measured(serve: Serve) -> None:
    service = await serve(METRICS_ENABLED="true")
    await asyncio.sleep(0.15)
    sleep(0.4)  # noqa: ASYNC251  blocks the event loop
    await asyncio.sleep(0.05)
    found = samples((await service.ask("GET", "/metrics")).body)
    assert 0.25 < found["event_loop_lag_seconds",] < 5


def test_maximum_of_two_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = RecentMaximum()
    seen = []
    for value, now in ((3, 103), (2, 104), (5, 119), (1, 135), (0, 150)):
        monkeypatch.setattr("server.observability.measurements.monotonic", lambda now=now: now)
        largest.record(value)
        seen.append(largest.read())
    assert seen == [3, 3, 5, 5, 1]


def test_numbers_have_a_label() -> None:
    metrics, numbers = Metrics(), {"used": 2, "ignored": 1}
    metrics.add_numbers("keys", "Keys.", "state", lambda: numbers)
    for numbers["used"] in (2, 1):
        found = samples(metrics.render())
        assert (found["keys", "used"], found["keys", "ignored"]) == (numbers["used"], 1)


async def test_disabled_metrics_are_not_recorded(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.observability.metrics.Metrics", None)  # a call would fail
    service = await serve()
    assert (await service.ask("GET", "/metrics")).code == "NOT_FOUND"


def test_a_counter_follows_the_total_that_it_reads() -> None:
    metrics, events = Metrics(), EventCount()
    metrics.add_counter("events", "Events.", lambda: events.total)
    assert samples(metrics.render())["events_total",] == 0
    events()
    assert samples(metrics.render())["events_total",] == 1
    events()
    events()
    assert samples(metrics.render())["events_total",] == 3


@pytest.mark.parametrize("value", [0.0, 12.5, True, math.inf])
def test_a_gauge_has_the_value_that_it_reads(value: float) -> None:
    metrics = Metrics()
    metrics.add_gauge("level", "Level.", lambda: value, across="livemax")
    assert samples(metrics.render())["level",] == value


async def test_numbers_are_recorded_regularly_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.observability.metrics._RECORD_SECONDS", 0)
    metrics = Metrics()
    reads = 0
    read_thrice = asyncio.Event()

    def read() -> int:
        nonlocal reads
        reads += 1
        if reads == 3:
            read_thrice.set()
        return reads

    metrics.add_gauge("reads", "Reads.", read, across="livemax")
    app = web.Application()
    app.cleanup_ctx.append(metrics.lifespan)
    before = asyncio.all_tasks()
    runner = web.AppRunner(app)
    await runner.setup()
    await read_thrice.wait()
    monkeypatch.setattr("server.observability.metrics._RECORD_SECONDS", 3600)
    await asyncio.sleep(0)
    during = reads
    await runner.cleanup()
    assert reads == during + 1
    assert asyncio.all_tasks() == before


def test_shared_metrics_are_those_of_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    (tmp_path / "counter_1.db").touch()  # its process is creating it
    (tmp_path / "counter_2.db").symlink_to(tmp_path / "deleted")  # its process has ended
    metrics = Metrics()
    metrics.observe(ResponseFacts(None, 200, None, None, 0.1))
    # prometheus_client was imported without the directory: this process keeps its values in memory.
    assert metrics.are_shared
    assert metrics.render() == b""

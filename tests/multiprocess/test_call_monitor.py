"""The call monitor in processes: one reads, all know, and another takes over."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest

from rig.process import ALONE, ROOT, TWO_WORKERS, Running, launch
from rig.redis_server import RedisServer
from rig.service import VARIABLES
from rig.vapi import StandIn, vapi
from rig.waiting import eventually
from rig.wire import exchange, get, start_request
from sandbox.vapi.call_list import CALL_LIST, CALLS
from tests.calls import CALL_VARIABLES, call, long_calls, proof
from tests.multiprocess.conftest import Start
from tests.server.calls.test_monitor import entry


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with vapi(calls=long_calls()) as running:
        yield running


def variables(stand_in: StandIn, **more: str) -> dict[str, str]:
    fixed = {"VAPI_BASE_URL": stand_in.url, "CALL_MONITOR": "enforce", "CALL_MONITOR_SECONDS": "1"}
    return {**CALL_VARIABLES, **fixed, "SHUTDOWN_GRACE_SECONDS": "2", **more}


async def becomes_up(*services: Running) -> None:
    """Wait until each service has the calls."""

    async def is_up() -> bool:
        answers = [await exchange(service, get("/readyz")) for service in services]
        return all(answer.json["parts"]["calls"] == "up" for answer in answers)

    await eventually(is_up, seconds=30)


async def ended_in(stand_in: StandIn, call_id: str) -> float:
    """Return after how many seconds a call has ended."""
    began = monotonic()

    async def has_ended() -> bool:
        return call_id not in stand_in.app[CALLS].active

    await eventually(has_ended, seconds=30)
    return monotonic() - began


def flagged(*services: Running) -> list[dict[str, Any]]:
    lines = [json.loads(line) for service in services for line in service.audit.lines]
    return [line for line in lines if line["event"] == "vapi_call_flagged"]


def reader_of(*services: Running) -> Running:
    """Return the service that has written the events of calls."""
    (reader,) = [each for each in services if each.audit.matching("vapi_call_started")]
    return reader


async def code(service: Running, patient: str) -> str | None:
    return (await exchange(service, start_request(patient))).code


async def test_one_process(start: Start, stand_in: StandIn) -> None:
    service = await start(ALONE, **variables(stand_in))
    await becomes_up(service)
    await call(stand_in, proof())
    assert await ended_in(stand_in, await call(stand_in)) < 4
    await service.audit.find('"vapi_call_flagged".*"rule":"unknown"')


@pytest.mark.redis
async def test_two_processes(start: Start, stand_in: StandIn, redis_server: RedisServer) -> None:
    began = time() - 3600
    past = entry("past", began, proof("pt_1", iat=began), seconds=1800)
    stand_in.app[CALL_LIST].more = [past]
    settings = variables(stand_in, REDIS_URL=redis_server.url, CALL_LIMITS="minutes:30/day")
    one, other = await start(ALONE, **settings), await start(ALONE, **settings)
    await becomes_up(one, other)
    assert await code(one, "pt_1") == await code(other, "pt_1") == "CALL_LIMIT_REACHED"
    assert await code(one, "pt_2") is await code(other, "pt_2") is None
    asked = len(stand_in.requests)
    await asyncio.sleep(4)
    assert len(stand_in.requests) - asked <= 6  # one of the two asks
    await call(stand_in, proof())
    assert await ended_in(stand_in, await call(stand_in)) < 4
    before = await call(stand_in)
    reader = reader_of(one, other)
    reader.process.kill()
    await ended_in(stand_in, before)
    survivor = other if reader is one else one
    assert await ended_in(stand_in, await call(stand_in)) < 10
    assert {line["action"] for line in flagged(survivor)} <= {"ended", "none"}
    assert await code(survivor, "pt_1") == "CALL_LIMIT_REACHED"


@pytest.mark.redis
async def test_process_that_was_stopped_does_not_act(
    start: Start, stand_in: StandIn, redis_server: RedisServer
) -> None:
    settings = variables(stand_in, REDIS_URL=redis_server.url)
    one, other = await start(ALONE, **settings), await start(ALONE, **settings)
    await becomes_up(one, other)
    await call(stand_in, proof())
    await eventually_started(one, other)
    reader = reader_of(one, other)
    follower = other if reader is one else one
    reader.process.send_signal(signal.SIGSTOP)
    await ended_in(stand_in, await call(stand_in))
    told = len(flagged(reader))
    reader.process.send_signal(signal.SIGCONT)
    second = await call(stand_in)
    await ended_in(stand_in, second)
    await follower.audit.find(f'"vapi_call_flagged".*{second}')
    assert len(flagged(reader)) == told


async def eventually_started(*services: Running) -> None:
    async def has_started() -> bool:
        return any(each.audit.matching("vapi_call_started") for each in services)

    await eventually(has_started, seconds=20)


@pytest.mark.redis
async def test_process_that_ends_hands_over_at_once(
    start: Start, stand_in: StandIn, redis_server: RedisServer
) -> None:
    settings = variables(stand_in, REDIS_URL=redis_server.url, CALL_MONITOR_SECONDS="30")
    one = await start(ALONE, **settings)
    await becomes_up(one)
    other = await start(ALONE, **settings)
    await one.terminate()
    await call(stand_in, proof())
    async with asyncio.timeout(20):
        await other.audit.find("vapi_call_started")


@pytest.mark.redis
async def test_workers_of_gunicorn(
    start: Start, stand_in: StandIn, redis_server: RedisServer
) -> None:
    service = await start(TWO_WORKERS, **variables(stand_in, REDIS_URL=redis_server.url))
    await becomes_up(service)
    await call(stand_in, proof())
    await ended_in(stand_in, await call(stand_in))
    await service.audit.find("vapi_call_flagged")
    assert len(flagged(service)) == 1


async def test_workers_without_redis_are_a_fault(tmp_path: Path, stand_in: StandIn) -> None:
    (tmp_path / "gunicorn.conf.py").symlink_to(ROOT / "gunicorn.conf.py")
    process = await launch(tmp_path, {**VARIABLES, **variables(stand_in)}, *TWO_WORKERS)
    _, err = await process.communicate()
    assert process.returncode == 78
    assert "CALL_MONITOR: needs REDIS_URL" in err.decode()

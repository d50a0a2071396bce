"""SIGTERM: nobody new gets in, and whoever is in gets an answer."""

import signal
from asyncio import StreamReader, StreamWriter
from collections.abc import Sequence

import pytest

from tests.multiprocess.conftest import Start
from tests.multiprocess.support import (
    ALONE,
    GUNICORN,
    TWO_WORKERS,
    Load,
    Reply,
    ask,
    connected,
    http,
    read_reply,
    start_request,
)

EITHER = pytest.mark.parametrize("command", [ALONE, TWO_WORKERS], ids=["alone", "gunicorn"])
ONE_PROCESS = pytest.mark.parametrize(
    "command", [ALONE, (*GUNICORN, "1")], ids=["alone", "gunicorn"]
)


async def readiness(reader: StreamReader, writer: StreamWriter) -> Reply:
    """Ask a service, over a connection that stays, whether it can serve."""
    writer.write(http("GET", "/readyz"))
    return await read_reply(reader)


async def until_leaving(reader: StreamReader, writer: StreamWriter) -> Reply:
    """Ask until the service says no."""
    while (reply := await readiness(reader, writer)).status == 200:
        pass
    return reply


@EITHER
async def test_no_request_is_lost_when_the_service_is_told_to_leave_under_load(
    start: Start, command: Sequence[str]
) -> None:
    service = await start(command, RATE_LIMIT="off", SHUTDOWN_GRACE_SECONDS="4")
    load = Load(service.port, enough=500)
    async with load.running(clients=48):
        service.process.terminate()
    assert await service.left() == 0
    assert load.lost == []
    assert set(load.statuses) == {200}
    # Each answer is told of in the audit log as well: leaving loses no line either.
    assert len(service.audit.lines) == len(load.statuses)


async def test_no_request_is_lost_when_gunicorn_replaces_its_workers_under_load(
    start: Start,
) -> None:
    service = await start(TWO_WORKERS, RATE_LIMIT="off", SHUTDOWN_GRACE_SECONDS="4")
    load = Load(service.port, enough=500)
    async with load.running(clients=16):
        service.process.send_signal(signal.SIGHUP)
        for _ in range(2):
            await service.log.find(r"Worker exiting")
        service.process.terminate()
    assert await service.left() == 0
    assert load.lost == []
    assert set(load.statuses) == {200}


@ONE_PROCESS
async def test_a_request_that_is_still_arriving_is_answered_to_its_end(
    start: Start, command: Sequence[str]
) -> None:
    service = await start(command, SHUTDOWN_GRACE_SECONDS="10")
    request = start_request(body=b'{"patientContext": {"id": "pt_1"}}')
    async with connected(service.port) as probe, connected(service.port) as (reader, writer):
        writer.write(request[:-10])
        assert (await readiness(*probe)).status == 200
        service.process.terminate()
        await until_leaving(*probe)
        writer.write(request[-10:])
        reply = await read_reply(reader)
        assert reply.status == 200
        assert reply.closes
        assert await reader.read() == b""
    assert await service.left() == 0


@ONE_PROCESS
async def test_readyz_tells_those_still_connected_that_the_service_leaves(
    start: Start, command: Sequence[str]
) -> None:
    service = await start(command)
    async with connected(service.port) as probe:
        ready = await readiness(*probe)
        assert (ready.status, ready.json["status"], ready.closes) == (200, "ready", False)
        service.process.terminate()
        leaving = await until_leaving(*probe)
        assert (leaving.status, leaving.json["status"]) == (503, "shutting down")
        assert leaving.closes
    assert await service.left() == 0


async def test_a_worker_told_to_leave_while_it_is_being_born_does(start: Start) -> None:
    service = await start(TWO_WORKERS, SHUTDOWN_GRACE_SECONDS="10")
    await service.log.find("Booting worker")
    service.process.terminate()
    assert await service.left() == 0
    # By itself: one that has to be killed says nothing.
    born, gone = service.log.matching("Booting worker"), service.log.matching("Worker exiting")
    assert len(gone) == len(born) > 0


@EITHER
async def test_nobody_new_is_let_in(start: Start, command: Sequence[str]) -> None:
    service = await start(command)
    assert (await ask(service.port, http("GET", "/healthz"))).status == 200
    service.process.terminate()
    assert await service.left() == 0
    with pytest.raises(ConnectionRefusedError):
        await ask(service.port, http("GET", "/healthz"))


@EITHER
async def test_a_client_that_stays_connected_and_silent_does_not_hold_the_service_up(
    start: Start, command: Sequence[str]
) -> None:
    service = await start(command)
    async with connected(service.port) as (reader, writer):
        writer.write(http("GET", "/healthz"))
        await read_reply(reader)
        service.process.terminate()
        assert await reader.read() == b""
        assert await service.left() == 0


@EITHER
async def test_a_configuration_that_does_not_hold_ends_with_78(
    start: Start, command: Sequence[str]
) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await start(command, RATE_LIMIT="often")
    told = str(caught.value.exceptions[0])
    assert "RATE_LIMIT: must be N/second" in told
    assert "Traceback" not in told
    assert "often" not in told


async def test_the_budget_holds_under_gunicorn(start: Start) -> None:
    service = await start((*GUNICORN, "1"), SESSION_BUDGET_SECONDS="0.2", VAPI_TIMEOUT_SECONDS=".1")
    reply = await ask(service.port, start_request()[:-1])
    assert reply.status == 408
    assert reply.json["error"]["code"] == "REQUEST_TIMEOUT"


async def test_gunicorns_workers_stop_working_for_a_client_who_left(start: Start) -> None:
    service = await start((*GUNICORN, "1"), SESSION_BUDGET_SECONDS="30")
    async with connected(service.port) as (_, writer):
        writer.write(start_request("pt_gone")[:-1])
        await writer.drain()
        # Answered by the one worker, after it has taken the request before.
        assert (await ask(service.port, http("GET", "/healthz"))).status == 200
    await service.audit.find(r'"status":499.*"patient":"pt_gone"')

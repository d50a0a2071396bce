"""SIGTERM: new connections are refused, and each request in flight is answered."""

import signal
from asyncio import StreamReader, StreamWriter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from time import monotonic

import pytest

from rig.process import ONE_WORKER, TWO_WORKERS
from rig.wire import WireAnswer, connected, exchange, get, read_answer, start_request
from tests.multiprocess.conftest import Start
from tests.multiprocess.support import EITHER, Load
from tests.server.observability.pipes import pipe


async def readiness(reader: StreamReader, writer: StreamWriter) -> WireAnswer:
    """Request the readiness over a connection that stays open."""
    writer.write(get("/readyz"))
    return await read_answer(reader)


async def until_draining(reader: StreamReader, writer: StreamWriter) -> WireAnswer:
    """Request the readiness until it is no longer 200."""
    while (reply := await readiness(reader, writer)).status == 200:
        pass
    return reply


@EITHER
async def test_no_request_is_lost_under_load(start: Start, command: Sequence[str]) -> None:
    service = await start(command, RATE_LIMIT="off", SHUTDOWN_GRACE_SECONDS="4")
    load = Load(service, enough=500)
    async with load.running(clients=48):
        service.process.terminate()
    assert await service.left() == 0
    assert load.lost == []
    assert set(load.statuses) == {200}
    # No audit line is lost either.
    assert len(service.audit.lines) == len(load.statuses)


@EITHER
async def test_request_that_is_arriving_is_answered(start: Start, command: Sequence[str]) -> None:
    service = await start(command, SHUTDOWN_GRACE_SECONDS="10")
    request = start_request(body=b'{"patientContext": {"id": "pt_1"}}')
    async with connected(service) as probe, connected(service) as (reader, writer):
        writer.write(request[:-10])
        assert (await readiness(*probe)).status == 200
        service.process.terminate()
        await until_draining(*probe)
        writer.write(request[-10:])
        reply = await read_answer(reader)
        assert reply.status == 200
        assert reply.closes
        assert await reader.read() == b""
    assert await service.left() == 0


@EITHER
async def test_open_connections_see_that_the_service_is_shutting_down(
    start: Start, command: Sequence[str]
) -> None:
    grace = 15
    service = await start(command, SHUTDOWN_GRACE_SECONDS=str(grace))
    async with connected(service) as probe, connected(service) as idle, connected(service) as new:
        for each in (probe, idle):
            ready = await readiness(*each)
            assert (ready.status, ready.json["status"], ready.closes) == (200, "ready", False)
        began = monotonic()
        service.process.terminate()
        draining = await until_draining(*probe)
        assert (draining.status, draining.json["status"]) == (503, "shutting down")
        assert draining.closes
        assert [await reader.read() for reader, _ in (idle, new)] == [b"", b""]
        assert await service.left() == 0
        assert monotonic() - began < 0.35 * grace
    with pytest.raises(ConnectionRefusedError):
        await exchange(service, get("/healthz"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_worker_that_is_being_started_ends_by_itself(
    start: Start, number: signal.Signals
) -> None:
    service = await start(TWO_WORKERS, SHUTDOWN_GRACE_SECONDS="10")
    await service.log.find("Booting worker")
    service.process.send_signal(number)
    assert await service.left() == 0
    for worker in service.workers():  # one that is killed logs no end
        assert service.log.matching(rf"Worker exiting \(pid: {worker}\)")


async def test_second_sigint_ends_all_processes_at_once(start: Start) -> None:
    service = await start(TWO_WORKERS, SHUTDOWN_GRACE_SECONDS="30", SESSION_BUDGET_SECONDS="20")
    request = start_request(body=b'{"patientContext": {"id": "pt_1"}}')
    async with connected(service) as (reader, writer):
        writer.write(request[:-10])
        await exchange(service, get("/healthz"))
        began = monotonic()
        service.process.send_signal(signal.SIGINT)
        await service.log.find("Handling signal: int")
        service.process.send_signal(signal.SIGINT)
        assert await service.left() == -signal.SIGINT
        assert await reader.read() == b""
        assert monotonic() - began < 5


@EITHER
async def test_requests_on_open_connections_are_answered_or_find_them_closed(
    start: Start, command: Sequence[str]
) -> None:
    """Each request finds its connection closed or is answered, whenever it is sent."""
    service = await start(command, SHUTDOWN_GRACE_SECONDS="4", RATE_LIMIT="off")
    load = Load(service, enough=100)
    async with load.running(clients=0, sparse=60):
        service.process.terminate()
    assert await service.left() == 0
    assert load.lost == []


@EITHER
async def test_nothing_keeps_the_process_beyond_the_grace(
    start: Start, command: Sequence[str]
) -> None:
    with pipe() as output:
        output.fill()
        service = await start(
            command,
            stdout=output.writer,
            SHUTDOWN_GRACE_SECONDS="8",
            SESSION_BUDGET_SECONDS="60",
            RATE_LIMIT="off",
        )
        incomplete = [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n", start_request()[:-1]]
        unread = get("/openapi.json") * 100
        async with AsyncExitStack() as stack:
            for sent in [*incomplete, unread] * 4:
                _, writer = await stack.enter_async_context(connected(service))
                writer.write(sent)
            assert (await exchange(service, start_request())).status == 200
            began = monotonic()
            service.process.terminate()
            assert await service.left() == 0
            assert monotonic() - began < 8


async def test_time_limit_and_clients_that_left_under_gunicorn(start: Start) -> None:
    service = await start(ONE_WORKER, SESSION_BUDGET_SECONDS="1", VAPI_TIMEOUT_SECONDS=".5")
    async with connected(service) as (_, writer):
        writer.write(start_request("pt_gone")[:-1])
        await writer.drain()
        # By now the only worker has read the request before.
        assert (await exchange(service, get("/healthz"))).status == 200
    await service.audit.find(r'"status":499.*"patient":"pt_gone"')
    answer = await exchange(service, start_request()[:-1])
    assert (answer.status, answer.code) == (408, "REQUEST_TIMEOUT")

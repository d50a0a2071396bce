"""Small writes leave together; the transport behaves as it does without that."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from server.serving import collected_writes, limits
from server.serving.bounded_reads import BoundedReads
from server.serving.collected_writes import CollectedWrites, WriteCollector

pytestmark = pytest.mark.both_event_loops
MOST = collected_writes._MOST_RESPONSES
Connect = Callable[..., Awaitable["Accepted"]]


class Accepted(asyncio.Protocol):
    """The server's side of a connection, and the client's socket."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.is_paused = False
        self.last_words = b""
        self.asked = asyncio.Event()
        self.lost = asyncio.Event()
        self.transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, _: bytes) -> None:
        """Note that there is a request."""
        self.asked.set()

    def pause_writing(self) -> None:
        """Note that the client reads too slowly."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """Note that the client has caught up."""
        self.is_paused = False

    def eof_received(self) -> None:
        """Write, and let the event loop close the connection."""
        self.transport.write(self.last_words)

    def connection_lost(self, _: Exception | None) -> None:
        """Note the end."""
        self.lost.set()

    def received(self) -> bytes:
        """Return what the kernel holds for the client, without waiting."""
        try:
            return self.client.recv(2**20)
        except BlockingIOError:
            return b""

    async def rest(self) -> bytes:
        """Read until the end of the connection."""
        parts = []
        while part := await asyncio.get_running_loop().sock_recv(self.client, 2**20):
            parts.append(part)
        return b"".join(parts)


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
async def connect(sockets: ExitStack) -> AsyncIterator[Connect]:
    """Open a connection whose writes are collected."""
    collector, buffer, opened = WriteCollector(), memoryview(bytearray(64)), []

    async def open_() -> Accepted:
        client, server = map(sockets.enter_context, socket.socketpair())
        client.setblocking(False)
        accepted = Accepted(client)
        opened.append(accepted)
        protocol = BoundedReads(accepted, buffer, collector, lambda: None)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, server)
        return accepted

    yield open_
    for accepted in opened:
        if not accepted.transport.is_closing():
            accepted.transport.abort()
        await accepted.lost.wait()


@pytest.fixture
async def busy(connect: Connect) -> Accepted:
    """Open a connection whose client waits for a response."""
    accepted = await connect()
    accepted.client.send(b"request")
    await accepted.asked.wait()
    return accepted


async def fill(accepted: Accepted) -> int:
    """Write until the kernel takes no more; return how much was written."""
    written = 0
    while not accepted.transport.get_write_buffer_size():
        accepted.transport.write(bytes(limits.WRITE_BUFFER_BYTES))
        written += limits.WRITE_BUFFER_BYTES
    return written


async def test_last_response_that_is_expected_does_not_wait(
    connect: Connect, busy: Accepted
) -> None:
    accepted = await connect()
    accepted.transport.write(b"response")
    assert accepted.received() == b""
    busy.transport.write(b"response")
    assert (accepted.received(), busy.received()) == (b"response", b"response")
    accepted.transport.write(b"alone")
    assert accepted.received() == b"alone"


async def test_large_response_is_not_expected_any_more(connect: Connect, busy: Accepted) -> None:
    accepted = await connect()
    busy.transport.write(bytes(limits.WRITE_BUFFER_BYTES + 1))
    accepted.transport.write(b"response")
    assert accepted.received() == b"response"


async def test_lost_connection_is_not_waited_for(connect: Connect, busy: Accepted) -> None:
    accepted = await connect()
    busy.transport.abort()
    await busy.lost.wait()
    accepted.transport.write(b"response")
    assert accepted.received() == b"response"


@pytest.mark.usefixtures("busy")
async def test_writes_of_a_turn_leave_at_its_end(connect: Connect) -> None:
    several = [await connect() for _ in range(MOST - 1)]
    for each in several:
        each.transport.write(b"response")
    assert [each.received() for each in several] == [b""] * len(several)
    await asyncio.sleep(0)
    assert [each.received() for each in several] == [b"response"] * len(several)


@pytest.mark.usefixtures("busy")
async def test_first_responses_do_not_wait_for_many_others(connect: Connect) -> None:
    several = [await connect() for _ in range(MOST + 1)]
    for each in several:
        each.transport.write(b"response")
    assert [each.received() for each in several] == [b"response"] * MOST + [b""]
    await asyncio.sleep(0)
    assert several[-1].received() == b"response"


@pytest.mark.usefixtures("busy")
async def test_writes_of_a_connection_keep_their_order(connect: Connect) -> None:
    accepted = await connect()
    accepted.transport.write(b"1")
    accepted.transport.writelines([b"2", bytearray(b"3"), memoryview(b"4")])
    accepted.transport.write(large := b"5" * limits.WRITE_BUFFER_BYTES)
    accepted.transport.write(b"6")
    assert accepted.received() == b"1234" + large
    await asyncio.sleep(0)
    assert accepted.received() == b"6"


@pytest.mark.usefixtures("busy")
async def test_what_is_written_later_changes_nothing(connect: Connect) -> None:
    accepted = await connect()
    data = bytearray(b"before")
    accepted.transport.write(data)
    data[:] = b"after!"
    await asyncio.sleep(0)
    assert accepted.received() == b"before"


@pytest.mark.parametrize("end", ["close", "abort", "write_eof"])
@pytest.mark.usefixtures("busy")
async def test_end_of_a_connection_comes_after_its_responses(connect: Connect, end: str) -> None:
    accepted = await connect()
    accepted.transport.write(b"response")
    getattr(accepted.transport, end)()
    assert await accepted.rest() == b"response"


@pytest.mark.usefixtures("busy")
async def test_response_to_a_client_that_has_ended_its_side_is_sent(connect: Connect) -> None:
    accepted = await connect()
    accepted.last_words = b"response"
    accepted.client.shutdown(socket.SHUT_WR)
    assert await accepted.rest() == b"response"


@pytest.mark.usefixtures("busy")
async def test_other_uses_find_what_was_written(connect: Connect) -> None:
    accepted = await connect()
    accepted.transport.write(b"response")
    assert accepted.transport.get_write_buffer_size() == 0
    assert accepted.received() == b"response"
    assert accepted.transport.get_extra_info("socket").family == socket.AF_UNIX
    assert not hasattr(accepted.transport, "missing")


async def test_slow_client_pauses_writing_at_once(connect: Connect) -> None:
    accepted = await connect()
    accepted.transport.set_write_buffer_limits(high=limits.WRITE_BUFFER_BYTES)
    written = await fill(accepted)
    while not accepted.is_paused:
        accepted.transport.write(bytes(1024))
        written += 1024
    accepted.transport.close()
    assert accepted.transport.is_closing()
    assert len(await accepted.rest()) == written
    assert not accepted.is_paused


async def test_nothing_is_written_to_a_connection_that_has_ended() -> None:
    class Closed(asyncio.Transport):
        def is_closing(self) -> bool:
            return True

        def get_write_buffer_size(self) -> int:
            return 0

    transport = CollectedWrites(Closed(), WriteCollector())
    transport.write(b"response")
    await asyncio.sleep(0)  # `Closed.write` would raise
    assert transport.get_write_buffer_size() == 0

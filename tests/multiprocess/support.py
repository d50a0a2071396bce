"""Clients that load services of several processes."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from rig.process import ALONE, ONE_WORKER
from rig.wire import Listens, connected, read_answer, start_request

EITHER = pytest.mark.parametrize("command", [ALONE, ONE_WORKER], ids=["alone", "gunicorn"])

_ANSWER_SECONDS = 20


@dataclass
class Load:
    """Clients that send requests until connections are refused; every request is accounted for.

    `lost` are the requests whose connection ended, or stayed open for `_ANSWER_SECONDS`, without a
    response. Sparse clients send rarely over connections that they keep; as real ones do, they
    connect again when the connection was closed before they send.
    """

    service: Listens
    enough: int
    statuses: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    under_way: asyncio.Event = field(default_factory=asyncio.Event)

    async def client(self, number: int, *, keep_alive: bool, pause: float = 0) -> None:
        request = start_request(f"pt_{number}")
        with suppress(ConnectionRefusedError):
            while True:
                async with connected(self.service) as (reader, writer):
                    while await self._is_answered(reader, writer, request) and keep_alive:  # noqa: ASYNC110  the pace of a client
                        await asyncio.sleep(pause)

    async def _is_answered(
        self, reader: StreamReader, writer: StreamWriter, request: bytes
    ) -> bool:
        """Send a request; return whether the connection stays open."""
        for _ in range(2):
            await asyncio.sleep(0)  # the event loop reads what has arrived, for example the end
        if reader.at_eof():
            return False
        try:
            writer.write(request)
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await read_answer(reader)
        except (OSError, EOFError) as error:
            self.lost.append(type(error).__name__)
            return False
        self.statuses.append(answer.status)
        if len(self.statuses) >= self.enough:
            self.under_way.set()
        return not answer.closes

    @asynccontextmanager
    async def running(self, clients: int, sparse: int = 0) -> AsyncIterator[None]:
        """Run the clients; the body of the context runs once `enough` requests are answered."""
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self.client(number, keep_alive=number % 2 == 0))
            for number in range(sparse):
                group.create_task(self.client(number, keep_alive=True, pause=0.02 * (number + 1)))
            await self.under_way.wait()
            yield

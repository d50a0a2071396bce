"""A steady load that accounts for every request."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

from rig.wire import Listens, WireAnswer, post, read_answer

Connect = Callable[[int], Awaitable[tuple[StreamReader, StreamWriter]]]
"""Opens a connection for the client with a number."""

TIMEOUT_SECONDS = 8.0
"""A request without a response for this long is lost."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: when the request was sent and how long the response took, in seconds."""

    sent_at: float
    seconds: float
    status: int
    code: str
    request_id: str


@dataclass
class Record:
    """All requests of an experiment."""

    answers: list[Answer] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unconnected: int = 0

    @property
    def requests(self) -> int:
        """The number of requests."""
        return len(self.answers) + len(self.lost) + self.unconnected

    def codes(self) -> Counter[str]:
        """Return the error codes, counted."""
        return Counter(answer.code for answer in self.answers if answer.code)

    def p99(self) -> float:
        """Return the 99th percentile of the response times, in seconds."""
        times = sorted(answer.seconds for answer in self.answers)
        return times[int(len(times) * 0.99)] if times else 0.0

    def is_failing(self) -> bool:
        """Whether one of the last requests was not granted."""
        return any(answer.status != 200 for answer in self.answers[-20:])

    def recovery(self, since: float) -> float:
        """Return the seconds from `since` to the last request that was not granted."""
        failed = [answer.sent_at for answer in self.answers if answer.status != 200]
        return max(0.0, max(failed, default=since) - since)


def directly(service: Listens) -> Connect:
    """Connect to the service without a proxy."""
    return lambda _: asyncio.open_connection("127.0.0.1", service.port)


class Load:
    """Clients on persistent connections that together send `rate` requests a second.

    A request on a reused connection that the server closed is sent again on a new connection, as
    proxies and HTTP clients do. A request on a new connection that gets no response is lost. Unless
    `reuse`, each request has a connection of its own, and its time includes connecting.
    """

    def __init__(
        self,
        connect: Connect,
        token: Callable[[str], str],
        *,
        rate: int,
        clients: int,
        reuse: bool = True,
    ) -> None:
        self._connect = connect
        self._reuse = reuse
        self._token = token
        self._interval = clients / rate
        self._clients = clients
        self._stopping = False
        self.record = Record()

    async def run(self) -> None:
        """Send requests until `stop`."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._clients):
                group.create_task(self._client(number))

    def stop(self) -> None:
        """Finish the requests in flight and return from `run`."""
        self._stopping = True

    async def _client(self, number: int) -> None:
        connection = _Connection(self._connect, number)
        await asyncio.sleep(self._interval * number / self._clients)
        while not self._stopping:
            started = monotonic()
            await self._request(connection, f"pt_{number}")
            if not self._reuse:
                connection.close()
            await asyncio.sleep(max(0.0, self._interval - (monotonic() - started)))
        connection.close()

    async def _request(self, connection: "_Connection", patient: str) -> None:
        reused = connection.is_open
        request = post(b"{}", token=self._token(patient))
        sent_at = monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await connection.send(request)
        except ConnectionRefusedError:
            self.record.unconnected += 1
            connection.close()
        except (OSError, EOFError) as error:
            connection.close()
            if reused and not isinstance(error, TimeoutError):
                await self._request(connection, patient)
            else:
                self.record.lost.append(type(error).__name__)
        else:
            self.record.answers.append(_timed(sent_at, answer))


class _Connection:
    """A persistent connection that is opened when it is needed."""

    def __init__(self, connect: Connect, number: int) -> None:
        self._connect = connect
        self._number = number
        self._streams: tuple[StreamReader, StreamWriter] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a connection is open."""
        return self._streams is not None

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def send(self, request: bytes) -> WireAnswer:
        """Send a request; return the response."""
        if self._streams is None:
            self._streams = await self._connect(self._number)
        reader, writer = self._streams
        writer.write(request)
        answer = await read_answer(reader)
        if answer.closes:
            self.close()
        return answer


def _timed(sent_at: float, answer: WireAnswer) -> Answer:
    return Answer(
        sent_at=sent_at,
        seconds=monotonic() - sent_at,
        status=answer.status,
        code=answer.code or "",
        request_id=answer.headers.get("X-Request-ID", ""),
    )


async def idle_connections(port: int, count: int) -> list[asyncio.StreamWriter]:
    """Open connections that send nothing; return those that could be opened."""
    writers: list[asyncio.StreamWriter] = []
    for _ in range(count):
        with suppress(OSError):
            writers.append((await asyncio.open_connection("127.0.0.1", port))[1])
    return writers


async def flood(service: Listens, seconds: float, connections: int = 8) -> None:
    """Send requests with a forged token, and audit lines of some length, without pause."""
    ends_at = monotonic() + seconds
    trace = f"traceparent: 00-{'a' * 32}-{'b' * 16}-01"
    batch = post(b"{}", f"X-Request-ID: {'r' * 128}", trace, token="e30.e30.forged") * 20

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        while monotonic() < ends_at:
            writer.write(batch)
            for _ in range(20):
                await read_answer(reader)
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(client())

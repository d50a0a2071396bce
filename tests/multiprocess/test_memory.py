"""The memory that a connection costs, whatever it sends."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from rig.process import ALONE, HOST
from rig.service import PATH, sign
from rig.waiting import eventually
from rig.wire import get
from tests.multiprocess.conftest import Start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CONNECTIONS = 100
MAX_KIB = 100

GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
POST = f"POST {PATH} HTTP/1.1\r\nHost: a\r\n".encode()
PATIENT = POST + f"Authorization: Bearer {sign()}\r\nContent-Type: application/json\r\n".encode()
EMOJI = "😀".encode()  # one makes each character of its field as large


def fields(count: int, size: int) -> bytes:
    return b"".join(b"X-%d: %b\r\n" % (number, b"a" * size) for number in range(count))


ATTACKS = {
    "many large fields": GET + fields(63, 32_000),
    "incomplete head": GET + fields(60, 500),
    "incomplete field": GET + b"X: " + EMOJI + b"a" * 31_000,
    "large head": GET + b"X: " + EMOJI + b"a" * 31_000 + b"\r\n\r\n",
    "pipelined heads": POST + b"Content-Length: 9\r\n\r\n" + (GET + fields(60, 500) + b"\r\n") * 32,
    "pipelined requests": (GET + b"\r\n") * 20_000,
    "unread responses": get("/openapi.json") * 2000,
    "unread large response": get("/docs/swagger-ui-bundle.js"),
    "large head and body": POST
    + fields(60, 500)
    + b"Content-Length: 90000\r\n\r\n"
    + b"a" * 80_000,
    "large token and late body": POST
    + b"Authorization: Bearer a.b."
    + b"c" * 32_000
    + b"\r\nContent-Length: 16384\r\n\r\n"
    + b"a" * 16_000,
    "fields of a head with a late body": POST
    + fields(39, 815)
    + b"Content-Length: 4096\r\n\r\n"
    + b"a" * 4_000,
    "body": PATIENT + b"Content-Length: 900000\r\n\r\n" + b" " * 800_000,
    "one-byte chunks": PATIENT + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 5000,
    "chunk extension": PATIENT + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 900_000,
    "trailers": PATIENT + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n" + fields(50, 30_000),
    "upgrade": GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n" + b"a" * 900_000,
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n" + b"a" * 900_000,
    "zeros": bytes(100_000),
}


class Memory:
    """The memory of a process, in KiB."""

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")

    def _read(self, name: str) -> int:
        lines = (self._process / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    @property
    def now(self) -> int:
        return self._read("VmRSS:")

    @property
    def peak(self) -> int:
        return self._read("VmHWM:")

    def reset_peak(self) -> None:
        (self._process / "clear_refs").write_text("5")

    async def settled(self) -> None:
        """Wait until the peak no longer rises."""
        before = 0
        while (peak := self.peak) > before:
            before = peak
            await asyncio.sleep(0.4)


async def send(client: socket.socket, port: int, data: bytes) -> None:
    """Send as much as the service takes, and read nothing."""
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError):
        await loop.sock_connect(client, (HOST, port))
        await loop.sock_sendall(client, data)


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        made = [stack.enter_context(socket.socket()) for _ in range(CONNECTIONS)]
        for client in made:
            client.setblocking(False)
        yield made


@pytest.mark.parametrize("name", ATTACKS)
async def test_connection_costs_at_most_100_kib(
    start: Start, clients: list[socket.socket], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # measuring takes memory too
    service = await start(ALONE, RATE_LIMIT="off", SESSION_BUDGET_SECONDS="20", DOCS_ENABLED="true")
    memory = Memory(service.process.pid)
    with socket.create_connection((HOST, service.port)) as first:
        first.sendall(get("/openapi.json"))
        await asyncio.to_thread(first.recv, 1)
    before = memory.now
    memory.reset_peak()
    async with asyncio.TaskGroup() as group:
        sending = [group.create_task(send(each, service.port, ATTACKS[name])) for each in clients]
        await memory.settled()
        assert memory.peak - before <= CONNECTIONS * MAX_KIB
        for task in sending:
            task.cancel()
    for client in clients:
        client.close()

    async def returned() -> bool:
        return memory.now - before < CONNECTIONS * MAX_KIB / 2

    await eventually(returned)

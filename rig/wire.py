"""A client that sends exact bytes over a real socket."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from multidict import CIMultiDict

from rig.service import PATH, claims, sign

JSON_TYPE = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """A response as received."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def json(self) -> Any:
        """The parsed body."""
        return msgspec.json.decode(self.body)

    @property
    def closes(self) -> bool:
        """Whether the server announces that it closes the connection."""
        return self.headers.get("Connection", "").lower() == "close"

    @property
    def code(self) -> str | None:
        """The code of the error; None for a success."""
        error = self.json.get("error")
        return None if error is None else str(error["code"])

    @property
    def details(self) -> str:
        """The details of the error."""
        return str(self.json["error"]["details"])


async def read_answer(reader: StreamReader) -> WireAnswer:
    """Read one response: its head, and the body that the head announces.

    Raises EOFError or OSError when the connection ends before.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = head.strip().split("\r\n")
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        name, _, value = line.partition(":")
        headers.add(name, value.strip())
    body = await reader.readexactly(int(headers.get("Content-Length", "0")))
    return WireAnswer(int(status.split(" ")[1]), headers, body)


class Listens(Protocol):
    """Something that listens on loopback."""

    @property
    def port(self) -> int | None:
        """Its port, while it listens."""


class Wire:
    """A connection that sends exact bytes."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes; ignore that the server has closed the connection."""
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def send_parts(self, *parts: bytes) -> None:
        """Send each part after a server of the same event loop has read the one before."""
        for part in parts:
            await self.send(part)
            for _ in range(5):
                await asyncio.sleep(0)

    async def answer(self) -> WireAnswer:
        """Read one response."""
        return await read_answer(self._reader)

    async def rest(self) -> bytes:
        """Read until the server closes the connection."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""

    @property
    def has_ended(self) -> bool:
        """Whether the server has closed the connection, and everything was read."""
        return self._reader.at_eof() or self._reader.exception() is not None

    def end(self) -> None:
        """Send no more, but continue to read: a half-close."""
        self._writer.write_eof()

    def leave(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()


@asynccontextmanager
async def connected(to: Listens) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """Open a connection. Raises OSError when the port is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", to.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def dial(to: Listens) -> AsyncIterator[Wire]:
    """Open a connection that is aborted at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", to.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def head(
    *lines: bytes | str, token: str | None = None, method: str = "POST", path: str = PATH
) -> bytes:
    """Return the head of a request with these lines, and with the token if there is one."""
    all_: Iterable[bytes | str] = (f"{method} {path} HTTP/1.1", "Host: service", *lines)
    if token is not None:
        all_ = (*all_, f"Authorization: Bearer {token}")
    return b"".join((n if isinstance(n, bytes) else n.encode()) + b"\r\n" for n in all_) + b"\r\n"


def post(body: bytes, *lines: bytes | str, token: str | None = None) -> bytes:
    """Return a whole request with a JSON body of the announced length."""
    length = f"Content-Length: {len(body)}"
    return head(length, "Content-Type: application/json", *lines, token=token) + body


def get(path: str) -> bytes:
    """Return a GET request."""
    return head(method="GET", path=path)


def start_request(patient: str = "pt_1", *lines: str, body: bytes = b"{}") -> bytes:
    """Return a valid request for a session."""
    return post(body, *lines, token=sign(claims(id=patient)))


async def exchange(to: Listens, data: bytes) -> WireAnswer:
    """Send bytes over a new connection; return the first response."""
    async with dial(to) as wire:
        await wire.send(data)
        return await wire.answer()

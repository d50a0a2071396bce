"""Requests that a client library does not send, and the stand-in for Vapi, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from sandbox.vapi.app import REQUESTS, create_vapi
from sandbox.vapi.behaviour import Behaviour
from sandbox.vapi.calls import CallStore
from sandbox.vapi.faults import SWITCH
from tests.support import ASSISTANT_ID, ORG_ID, PATH, PRIVATE_KEY, PUBLIC_KEY, Service

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
    def code(self) -> str | None:
        """The code of the error; None for a success."""
        error = self.json.get("error")
        return None if error is None else str(error["code"])

    @property
    def details(self) -> str:
        """The details of the error."""
        return str(self.json["error"]["details"])


class Wire:
    """A connection that sends exact bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes; ignore that the server has closed the connection."""
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def answer(self) -> WireAnswer:
        """Read one response: its head, and the body that the head announces."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = head.strip().split("\r\n")
        headers: CIMultiDict[str] = CIMultiDict()
        for line in lines:
            name, _, value = line.partition(":")
            headers.add(name, value.strip())
        body = await self._reader.readexactly(int(headers.get("Content-Length", "0")))
        return WireAnswer(int(status.split(" ")[1]), headers, body)

    async def rest(self) -> bytes:
        """Read until the server closes the connection."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""

    def end(self) -> None:
        """Send no more, but continue to read: a half-close."""
        self._writer.write_eof()

    def leave(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()


@asynccontextmanager
async def dial(service: Service) -> AsyncIterator[Wire]:
    """Open a connection to the service."""
    where = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
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


async def exchange(service: Service, data: bytes) -> WireAnswer:
    """Send bytes over a new connection; return the first response."""
    async with dial(service) as wire:
        await wire.send(data)
        return await wire.answer()


@dataclass(frozen=True, slots=True)
class StandIn:
    """The running stand-in for Vapi."""

    url: str
    app: web.Application

    def behave(self, behaviour: Behaviour) -> None:
        """Change the behaviour from now on."""
        self.app[SWITCH].behaviour = behaviour

    @property
    def requests(self) -> list[str]:
        """The method and path of each request so far."""
        requests = self.app[REQUESTS]
        return list(requests)


def make_vapi(calls: CallStore | None = None) -> web.Application:
    """Return the stand-in with the account of the settings of the tests."""
    return create_vapi(
        private_key=PRIVATE_KEY,
        public_key=PUBLIC_KEY,
        org_id=ORG_ID,
        assistant_id=ASSISTANT_ID,
        calls=calls,
    )


@asynccontextmanager
async def vapi(
    behaviour: Behaviour | None = None, calls: CallStore | None = None
) -> AsyncIterator[StandIn]:
    """Run the stand-in with the account of the settings of the tests."""
    app = make_vapi(calls)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stand_in = StandIn(f"http://127.0.0.1:{runner.addresses[0][1]}", app)
        if behaviour is not None:
            stand_in.behave(behaviour)
        yield stand_in
    finally:
        await runner.cleanup()

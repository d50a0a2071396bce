"""Serves the applications of the sandbox, on loopback only."""

import socket
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import TypeVar

import msgspec
from aiohttp import web

HOST = "127.0.0.1"

T = TypeVar("T")


def bind(port: int = 0) -> socket.socket:
    """Bind a port on loopback, by default a free one. Raises OSError when it is in use."""
    return socket.create_server((HOST, port))


def bind_if_free(port: int) -> AbstractContextManager[socket.socket | None]:
    """Bind a port on loopback; the context gives None when it is taken, and releases it."""
    try:
        return bind(port)
    except OSError:
        return nullcontext()


def port_of(listener: socket.socket) -> int:
    """Return the port of a listener."""
    port: int = listener.getsockname()[1]
    return port


def origin(listener: socket.socket) -> str:
    """Return the origin of a listener."""
    return f"http://{HOST}:{port_of(listener)}"


@asynccontextmanager
async def serving(app: web.Application, *listeners: socket.socket) -> AsyncIterator[None]:
    """Serve an application on bound ports; release them at the end."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        for listener in listeners:
            await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()


async def read_json(request: web.Request, kind: type[T]) -> T:
    """Read a body of this type. Raises HTTPBadRequest."""
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=str(error)) from None


def answer(value: object, status: int = 200) -> web.Response:
    """Return a JSON response."""
    content = msgspec.json.encode(value)
    return web.Response(status=status, body=content, content_type="application/json")

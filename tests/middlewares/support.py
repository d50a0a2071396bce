"""What the tests of single links share: a bare application, a caller, and a wire of their own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from aiohttp.typedefs import Handler, Middleware
from msgspec.structs import replace

from middlewares.api_errors import ApiError, ErrorCode
from middlewares.request_context import REQUEST_ID, STARTED_AT, Principal

Client = TestClient[web.Request, web.Application]
Alone = Callable[..., Awaitable[Client]]
Given = Mapping[web.RequestKey[Any], Any]

Result = TypeVar("Result")

NAME = "endpoint"
NOW = 4_000_000_000.0
"""Late in this century, so that PyJWT, which reads the real clock, minds no date around it."""
PATIENT = Principal(
    patient_id="pt_1",
    roles=frozenset({"patient"}),
    scopes=frozenset(),
    token_id="token-1",
    valid_from=0,
    expires_at=NOW + 60,
)


def patient_with(**changes: Any) -> Principal:
    """Give a patient who differs in this from any other."""
    return replace(PATIENT, **changes)


async def hello(_: web.Request) -> web.Response:
    """Stand for whatever a link leads to."""
    return web.Response(text="hello")


def application(
    *links: Middleware, handler: Handler = hello, given: Given | None = None
) -> web.Application:
    """Make an application of nothing but these links; `given` is what outer ones would have set."""
    outside: dict[web.RequestKey[Any], Any] = {REQUEST_ID: "request-1", STARTED_AT: 0.0}
    outside.update(given or {})

    @web.middleware
    async def given_link(request: web.Request, handler: Handler) -> web.StreamResponse:
        for key, value in outside.items():
            request[key] = value
        return await handler(request)

    app = web.Application(middlewares=[given_link, *links])
    app.router.add_route("*", "/", handler, name=NAME)
    return app


def refused(call: Callable[..., object], *arguments: object) -> ErrorCode:
    """Call what must refuse, and give the code it refuses with."""
    with pytest.raises(ApiError) as caught:
        call(*arguments)
    return caught.value.code


def outcome(call: Callable[..., Result], *arguments: object) -> Result | ErrorCode:
    """Call what may refuse; give its result, or the code it refuses with, and let all else out."""
    try:
        return call(*arguments)
    except ApiError as error:
        return error.code


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Give what the log was told, but for what any server on aiohttp tells it."""
    usual = {"asyncio", "aiohttp.access"}
    return [record for record in caplog.records if record.name not in usual]


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back over the wire."""

    status: int
    head: bytes
    body: bytes


async def say(client: Client, *lines: bytes, method: bytes = b"POST") -> Heard:
    """Send header lines byte for byte, as no client would, and listen to the end."""
    head = [method + b" / HTTP/1.1", b"Host: here", b"Connection: close", *lines]
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        writer.write(b"\r\n".join(head) + b"\r\n\r\n")
        answer, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return Heard(int(answer.split(b" ")[1]), answer, body)
    finally:
        writer.close()
        await writer.wait_closed()

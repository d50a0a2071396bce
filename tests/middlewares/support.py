"""Shared by the tests of single middlewares: a bare application, a principal, a raw client."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from aiohttp.typedefs import Handler, Middleware
from msgspec.structs import replace

from middlewares.context import CONTEXT, Principal, RequestContext
from middlewares.errors import ApiError, ErrorCode
from rig.wire import WireAnswer, exchange, head

Client = TestClient[web.Request, web.Application]
Alone = Callable[..., Awaitable[Client]]
Given = Mapping[web.RequestKey[Any] | str, Any]

Result = TypeVar("Result")

NAME = "endpoint"
NOW = 4_000_000_000.0
"""Far in the future, so that PyJWT, which uses the real clock, accepts dates around it."""
PATIENT = Principal(
    patient_id="pt_1",
    roles=frozenset({"patient"}),
    scopes=frozenset(),
    token_id="token-1",
    valid_from=0,
    expires_at=NOW + 60,
)


def patient_with(**changes: Any) -> Principal:
    """Return the patient with these changes."""
    return replace(PATIENT, **changes)


async def hello(request: web.Request) -> web.Response:
    """The default handler."""
    assert request.transport
    return web.Response(text="hello")


def application(
    *middlewares: Middleware, handler: Handler = hello, given: Given | None = None
) -> web.Application:
    """Return an application with only these middlewares.

    `given` are request keys, and fields of the context by their names. They are set outside and,
    as `audit` creates a context, inside of the middlewares.
    """

    def set_given(request: web.Request) -> None:
        for key, value in (given or {}).items():
            if isinstance(key, str):
                setattr(request[CONTEXT], key, value)
            else:
                request[key] = value

    @web.middleware
    async def outside(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[CONTEXT] = RequestContext(started_at=0.0, request_id="request-1", trace_id=None)
        set_given(request)
        return await handler(request)

    @web.middleware
    async def inside(request: web.Request, handler: Handler) -> web.StreamResponse:
        set_given(request)
        return await handler(request)

    app = web.Application(middlewares=[outside, *middlewares, inside])
    app.router.add_route("*", "/", handler, name=NAME)
    return app


def outcome(call: Callable[..., Result], *arguments: object) -> Result | ErrorCode:
    """Return the result of the call, or the code of the `ApiError` that it raises."""
    try:
        return call(*arguments)
    except ApiError as error:
        return error.code


def log_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the log records, without those of asyncio and aiohttp's access log."""
    usual = {"asyncio", "aiohttp.access"}
    return [record for record in caplog.records if record.name not in usual]


async def send_raw(client: Client, *lines: bytes) -> WireAnswer:
    """Send a POST request with these header lines and return the response."""
    return await exchange(client, head(*lines, path="/"))

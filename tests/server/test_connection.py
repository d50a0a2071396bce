"""A client's connection when things go wrong outside the chain; malformed HTTP has its own file."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler

from server import connection
from tests.support import PATH, make_settings, running, sign
from tests.test_contract import holds_the_envelope
from tests.wire import dial, exchange, head, post


@web.middleware
async def forget(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with nothing: a fault that shows outside the chain."""
    return None  # type: ignore[return-value]


async def test_a_fault_outside_the_chain_is_answered_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(make_settings(), forget) as service, dial(service) as wire:
        await wire.send(head(token=sign()))
        answer = await wire.answer()
        assert (answer.status, answer.code) == (500, "INTERNAL_ERROR")
        holds_the_envelope(answer)
        assert await wire.rest() == b""
    (record,) = [record for record in caplog.records if record.exc_info]
    assert vars(record)["request_id"] == answer.headers["X-Request-ID"]
    assert vars(record)["request_id"] in answer.details


async def test_a_fault_of_the_connection_itself_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError("outside everything")

    monkeypatch.setattr(RequestHandler, "finish_response", fail)
    async with running(make_settings()) as service, dial(service) as wire:
        await wire.send(head(token=sign()))
        assert await wire.rest() == b""
    assert "ZeroDivisionError: outside everything" in caplog.text


async def test_a_connection_outlives_what_was_refused_on_it() -> None:
    async with running(make_settings()) as service, dial(service) as wire:
        for sent, status in (
            (head(), 401),
            (head(path="/nowhere"), 404),
            (head(token=sign()), 200),
        ):
            await wire.send(sent)
            assert (await wire.answer()).status == status


async def test_who_never_asks_is_sent_away_and_who_asked_may_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "FIRST_REQUEST_SECONDS", 0.1)
    async with running(make_settings()) as service, dial(service) as asks, dial(service) as silent:
        for _ in range(2):
            await asks.send(head(token=sign()))
            assert (await asks.answer()).status == 200
            assert await silent.rest() == b""


async def test_a_body_that_came_whole_is_not_spoilt_by_what_follows_while_it_waits() -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    @web.middleware
    async def hold(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == PATH:
            arrived.set()
            await go.wait()
        return await handler(request)

    async with running(make_settings(), hold) as service, dial(service) as wire:
        await wire.send(post(b"{}", token=sign()))
        await arrived.wait()
        await wire.send(b"no HTTP at all\r\n\r\n")
        for _ in range(3):  # by the time that these are answered, that has come
            assert (await service.ask("GET", "/healthz")).status == 200
        go.set()
        assert (await wire.answer()).status == 200
        assert (await wire.answer()).code == "INVALID_REQUEST"


async def test_headers_may_be_so_large_and_so_many() -> None:
    async with running(make_settings()) as service:
        large = head("X-A: " + "a" * 20_000, *["X-B: b"] * 50, token=sign())
        assert (await exchange(service, large)).status == 200

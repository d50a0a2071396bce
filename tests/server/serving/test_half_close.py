"""A client that ends its side of the connection still gets its response."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from rig.issuer import eventually
from rig.service import Service, make_settings, running, sign
from rig.wire import dial, head, post
from server.serving import limits
from tests.conftest import AuditLines

TOKEN = sign()
REQUEST = post(b"{}", token=TOKEN)
CHUNKED = (
    head("Transfer-Encoding: chunked", "Content-Type: application/json", token=TOKEN)
    + b"2\r\n{}\r\n0\r\n\r\n"
)


def delayed(until: asyncio.Event) -> Middleware:
    """Return a middleware that delays sessions until `until` is set."""

    @web.middleware
    async def delay(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST":
            await until.wait()
        return await handler(request)

    return delay


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_every_request_before_the_end_is_answered(service: Service, count: int) -> None:
    async with dial(service) as wire:
        await wire.send(head(method="GET", path="/healthz") * (count - 1) + REQUEST)
        wire.end()
        assert [(await wire.answer()).status for _ in range(count)] == [200] * count
        assert await wire.rest() == b""


async def test_last_response_closes_the_connection(service: Service) -> None:
    async with dial(service) as wire:
        await wire.send(REQUEST)
        assert "Connection" not in (await wire.answer()).headers
        await wire.send(REQUEST)
        wire.end()
        await wire.answer()
        assert await wire.rest() == b""


async def test_response_under_way_is_waited_for() -> None:
    go = asyncio.Event()
    async with running(make_settings(), delayed(go)) as service, dial(service) as wire:
        await wire.send(REQUEST)
        wire.end()
        await service.ask("GET", "/healthz")  # by now the end has been read
        go.set()
        assert (await wire.answer()).status == 200
        assert await wire.rest() == b""


async def test_client_that_left_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch, audit_lines: AuditLines
) -> None:
    monkeypatch.setattr(limits, "HALF_CLOSED_SECONDS", 0.01)
    lines = []

    async def audited() -> bool:
        lines.extend(audit_lines())
        return bool(lines)

    settings = make_settings(SESSION_BUDGET_SECONDS="50")
    async with running(settings, delayed(asyncio.Event())) as service, dial(service) as wire:
        await wire.send(REQUEST)
        wire.leave()
        await eventually(audited)
    assert [line["status"] for line in lines] == [499]


async def test_incomplete_head_is_not_well_formed(service: Service) -> None:
    for sent in (b"GET / HT", b"hello", REQUEST[:-5], head("X-A: " + "a" * 9000)[:-2]):
        async with dial(service) as wire:
            await wire.send(sent)
            wire.end()
            answer = await wire.answer()
            assert (answer.status, answer.code) == (400, "INVALID_REQUEST"), sent
            assert await wire.rest() == b""


async def test_incomplete_body_ends_the_request(service: Service, audit_lines: AuditLines) -> None:
    async with dial(service) as wire:
        await wire.send(REQUEST[:-1])
        wire.end()
        assert await wire.rest() == b""
    assert [line["status"] for line in audit_lines()] == [499]


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("before", [b"", REQUEST, CHUNKED])
@pytest.mark.parametrize("size", [1, 10_000])
async def test_empty_lines_are_ignored(
    service: Service, before: bytes, sent: bytes, size: int
) -> None:
    whole = before + sent
    async with dial(service) as wire:
        for start in range(0, len(whole), size):
            await wire.send(whole[start : start + size])
            await asyncio.sleep(0)
        wire.end()
        if before:
            assert (await wire.answer()).status == 200
        assert await wire.rest() == b""

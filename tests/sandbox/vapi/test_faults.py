"""The switch that makes the stand-in fail."""

import asyncio

import aiohttp
import pytest

from rig.waiting import until
from sandbox.vapi.app import REQUESTS
from sandbox.vapi.behaviour import UP, Behaviour, Fault
from sandbox.vapi.faults import HUGE_BYTES, SWITCH
from tests.sandbox.vapi.support import PUBLIC, Client, call_web


@pytest.mark.parametrize("status", [302, 401, 403, 404, 429, 500, 503])
async def test_status_fault_can_be_set_and_cleared(vapi: Client, status: int) -> None:
    """The switch acts at once, and every request is recorded."""
    vapi.app[SWITCH].behaviour = Behaviour(Fault.STATUS, status=status)
    failed = await vapi.get("/assistant/x", allow_redirects=False)
    assert failed.status == status
    assert (await failed.json())["statusCode"] == status
    vapi.app[SWITCH].behaviour = UP
    assert (await call_web(vapi, PUBLIC)).status == 201
    requests = vapi.app[REQUESTS]
    assert list(requests) == ["GET /assistant/x", "POST /call/web"]


async def test_rate_limit_has_its_own_text(vapi: Client) -> None:
    """A browser's preflight passes, so that a page can read the answer."""
    vapi.app[SWITCH].behaviour = Behaviour(Fault.STATUS, status=429)
    assert (await vapi.options("/call/web")).status == 204
    refused = await call_web(vapi, PUBLIC)
    assert await refused.json() == {
        "message": "Rate limit exceeded",
        "error": "Too Many Requests",
        "statusCode": 429,
    }


@pytest.mark.parametrize("fault", [Fault.JUNK, Fault.RESET])
async def test_protocol_fault_is_a_client_error(vapi: Client, fault: Fault) -> None:
    """The answer is not HTTP."""
    vapi.app[SWITCH].behaviour = Behaviour(fault)
    with pytest.raises(aiohttp.ClientError):
        await vapi.get("/assistant/x")


async def test_huge_body_is_sent_in_full(vapi: Client) -> None:
    """Fifty megabytes arrive when the client reads them."""
    vapi.app[SWITCH].behaviour = Behaviour(Fault.HUGE)
    answer = await vapi.get("/assistant/x")
    size = 0
    async for part in answer.content.iter_chunked(1 << 20):
        size += len(part)
    assert size == HUGE_BYTES


async def test_header_trickle_ends_with_the_connection(vapi: Client) -> None:
    """The head continues until the client disconnects."""
    vapi.app[SWITCH].behaviour = Behaviour(Fault.TRICKLE_HEADERS, pause=0)
    reader, writer = await asyncio.open_connection(vapi.host, vapi.port)
    writer.write(b"GET /assistant/x HTTP/1.1\r\nHost: vapi\r\n\r\n")
    assert await reader.readexactly(len(b"HTTP/1.1 200 OK")) == b"HTTP/1.1 200 OK"
    assert b"xxxx" in await reader.readuntil(b"xxxxxxxx")
    writer.close()
    await idle(vapi)


@pytest.mark.parametrize("fault", [Fault.TRICKLE_BODY, Fault.HUGE])
async def test_unread_body_ends_with_the_connection(vapi: Client, fault: Fault) -> None:
    """A client that disconnects ends the answer without an error."""
    vapi.app[SWITCH].behaviour = Behaviour(fault, pause=0)
    answer = await vapi.get("/assistant/x")
    assert answer.status == 200
    answer.close()
    await idle(vapi)


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HUGE, Fault.TRICKLE_BODY])
async def test_shutdown_cancels_stuck_requests(vapi: Client, fault: Fault) -> None:
    """Shutdown does not wait for requests that never end."""
    vapi.app[SWITCH].behaviour = Behaviour(fault, pause=3600)
    request = asyncio.create_task(read_all(vapi))
    await until(lambda: bool(vapi.app[SWITCH].stuck))
    await vapi.server.close()
    await idle(vapi)
    with pytest.raises(aiohttp.ClientError):
        await request


async def read_all(vapi: Client) -> bytes:
    """Send a request and read the whole answer."""
    async with vapi.get("/assistant/x") as answer:
        return await answer.read()


async def idle(vapi: Client) -> None:
    """Wait until no request is stuck."""
    await until(lambda: not vapi.app[SWITCH].stuck)

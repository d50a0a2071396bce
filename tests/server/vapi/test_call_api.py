"""Reading the list of calls: paging, large pages, and whose control addresses are called."""

from time import time

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from middlewares.context import rfc3339
from rig.service import PRIVATE_KEY, PUBLIC_KEY
from rig.vapi import StandIn, vapi
from sandbox.vapi.call_list import CALL_LIST
from server.vapi import call_api
from server.vapi.call_api import CallApi, CallListError, WebCall


def api(stand_in: StandIn | None = None, url: str = "https://api.vapi.ai") -> CallApi:
    base_url = stand_in.url if stand_in else url
    return CallApi(base_url=base_url, api_key=PRIVATE_KEY, public_key=PUBLIC_KEY, allowed=())


def entry(number: int, at: float, size: int = 0) -> dict[str, object]:
    when = rfc3339(at)
    call = {"id": str(number), "type": "webCall", "createdAt": when, "updatedAt": when}
    return {**call, "artifact": {"transcript": "x" * size}}


@pytest.mark.parametrize(("count", "size"), [(0, 0), (1000, 0), (2500, 100), (300, 100_000)])
async def test_no_call_is_lost(count: int, size: int) -> None:
    now = time()
    async with vapi() as stand_in, ClientSession() as session:
        stand_in.app[CALL_LIST].more = [entry(n, now - 1 - n // 3, size) for n in range(count)]
        listed = await api(stand_in).read(session, now - 86400, now)
    assert len(listed.calls) == count
    assert not listed.unreadable
    assert listed.date is not None
    assert len(stand_in.requests) < 20


async def test_one_call_is_too_large() -> None:
    now = time()
    async with vapi() as stand_in, ClientSession() as session:
        stand_in.app[CALL_LIST].more = [entry(1, now - 5), entry(2, now - 9, 17 * 2**20)]
        listed = await api(stand_in).read(session, now - 10, now)
    assert set(listed.calls) == {"1"}
    assert listed.unreadable


async def test_telephone_calls_are_not_looked_at() -> None:
    now = time()
    async with vapi() as stand_in, ClientSession() as session:
        telephone = {**entry(1, now - 5), "type": "inboundPhoneCall"}
        stand_in.app[CALL_LIST].more = [telephone, entry(2, now - 5)]
        listed = await api(stand_in).read(session, now - 10, now)
    assert set(listed.calls) == {"2"}


async def test_too_many_pages_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_api, "_MAX_REQUESTS", 2)
    now = time()
    async with vapi() as stand_in, ClientSession() as session:
        stand_in.app[CALL_LIST].more = [entry(n, now - n) for n in range(2500)]
        with pytest.raises(CallListError, match="too many pages"):
            await api(stand_in).read(session, now - 86400, now)


async def test_list_without_an_answer_is_a_failure() -> None:
    async with ClientSession() as session:
        with pytest.raises(CallListError, match="the connection failed: Connection refused"):
            await api(url="http://127.0.0.1:1").read(session, 0, time())


async def test_answer_without_a_date_has_none() -> None:
    async def calls(_: web.Request) -> web.Response:
        return web.json_response([], headers={"Date": "never"})

    app = web.Application()
    app.router.add_get("/call", calls)
    async with TestServer(app) as server, ClientSession() as session:
        listed = await api(url=str(server.make_url("/"))).read(session, 0, time())
    assert listed.date is None


@pytest.mark.parametrize("control_url", ["http://127.0.0.1:1/control", "http://10.0.0.1/control"])
async def test_call_that_cannot_be_ended(control_url: str) -> None:
    call = WebCall(id="1", status="", created_at=0, updated_at=0, control_url=control_url)
    async with ClientSession() as session:
        assert not await api(url="http://127.0.0.1:1").end(session, call)


async def test_rate_limit() -> None:
    async with vapi() as stand_in, ClientSession() as session:
        stand_in.app[CALL_LIST].status, stand_in.app[CALL_LIST].retry_after = 429, 7
        with pytest.raises(CallListError, match="status 429") as caught:
            await api(stand_in).read(session, 0, time())
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    ("base_url", "control_url", "expected"),
    [
        ("https://api.vapi.ai", "https://phone-call.vapi.ai/1/control", True),
        ("https://api.vapi.ai", "https://vapi.ai/1/control", True),
        ("https://api.vapi.ai", "http://phone-call.vapi.ai/1/control", False),
        ("https://api.vapi.ai", "https://vapi.ai.evil.example/1", False),
        ("https://api.vapi.ai", "https://evilvapi.ai/1", False),
        ("https://api.vapi.ai", "https://a@vapi.ai/1", False),
        ("https://api.vapi.ai", "https://[vapi.ai", False),
        ("https://api.vapi.ai", "http://127.0.0.1/1", False),
        ("http://127.0.0.1:1", "http://127.0.0.1/1", True),
        ("http://127.0.0.1:1", "http://10.0.0.1/1", False),
        ("https://api.vapi.ai", None, False),
    ],
)
def test_control_addresses(base_url: str, control_url: str | None, *, expected: bool) -> None:
    call = WebCall(id="1", status="", created_at=0, updated_at=0, control_url=control_url)
    assert api(url=base_url).can_end(call) is expected

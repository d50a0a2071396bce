"""Reading the list of calls: paging, large pages, and whose control addresses are called."""

import asyncio
import json
from time import time

import msgspec
import pytest
from aiohttp import ClientSession, ClientTimeout, web
from aiohttp.test_utils import TestServer

from middlewares.context import rfc3339
from rig.service import make_settings
from rig.vapi import StandIn, vapi
from sandbox.vapi.call_list import CALL_LIST
from server.vapi import call_api, web_call
from server.vapi.call_api import CallApi, CallListError
from server.vapi.web_call import UnreadableCall, WebCall


def api(stand_in: StandIn | None = None, url: str = "https://api.vapi.ai") -> CallApi:
    base_url = stand_in.url if stand_in else url
    return CallApi(make_settings(VAPI_BASE_URL=base_url))


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
    assert listed.date == pytest.approx(now, abs=30)
    assert len(stand_in.requests) < 30


def changed_at(number: int, created: float, updated: float, **more: object) -> dict[str, object]:
    return {**entry(number, created), "updatedAt": rfc3339(updated), **more}


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the limits, so that tests read less."""
    monkeypatch.setattr(call_api, "_PAGE_BYTES", 2**20)
    monkeypatch.setattr(web_call, "_LARGE_BYTES", 2**19)


LARGE = {"artifact": {"transcript": "x" * 2**21}}
DEEP = {"artifact": msgspec.Raw(b'{"a":' * 5000 + b"1" + b"}" * 5000)}


@pytest.mark.parametrize("unreadable", [LARGE, DEEP], ids=["large", "deep"])
async def test_calls_that_changed_with_one_that_cannot_be_read(
    unreadable: dict[str, object], small_pages: None
) -> None:
    now = round(time(), 3)
    # Each by ten milliseconds, so that none is created with the large one.
    tied = [changed_at(n, now - 60 - n / 100 + 0.005, now - 9) for n in range(20)]
    others = [entry(100 + n, now - 5.5 - n) for n in range(20)]
    async with vapi() as stand_in, ClientSession() as session:
        stand_in.app[CALL_LIST].more = [
            *others,
            changed_at(99, now - 60.1, now - 9, **unreadable),
            *tied,
        ]
        reader = api(stand_in)
        first = await reader.read(session, now - 86400, now + 60)
        requests = len(stand_in.requests)
        again = await reader.read(session, now - 86400, now + 60, skip=first.unreadable)
        assert len(stand_in.requests) - requests <= 3
    assert len(first.calls) == 40
    assert [(each.id, each.updated) for each in first.unreadable] == [
        ("99", round((now - 9) * 1000))
    ]
    assert len(again.calls) == 20
    assert again.unreadable == []


async def test_call_that_cannot_be_read_and_does_not_tell_which_it_is(small_pages: None) -> None:
    now = round(time(), 3)
    large = {**LARGE, **entry(1, now - 5)}
    del large["artifact"]
    async with vapi() as stand_in, ClientSession() as session:
        stand_in.app[CALL_LIST].more = [{**LARGE, **large}]
        reader = api(stand_in)
        listed = await reader.read(session, now - 6, now)
        requests = len(stand_in.requests)
        old = UnreadableCall("another", 1)
        await reader.read(session, now - 6, now, skip=[*listed.unreadable, old])
        assert len(stand_in.requests) == requests + 2
    (call,) = listed.unreadable
    assert call.id is None
    assert call.updated == pytest.approx((now - 5) * 1000, abs=1)


async def test_more_calls_of_one_moment_than_a_page_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(call_api, "_MAX_CALLS", 10)
    now = round(time(), 3)
    async with vapi() as stand_in, ClientSession() as session:
        stand_in.app[CALL_LIST].more = [entry(n, now - 5) for n in range(200)]
        listed = await api(stand_in).read(session, now - 6, now)
    assert {each.id for each in listed.unreadable} == {None}


async def test_fields_in_another_form_count_as_absent() -> None:
    now = round(time(), 3)
    others = {"cost": "0.1", "endedAt": "", "assistantId": "", "monitor": "https://x.vapi.ai/c"}
    calls = [
        {**entry(1, now - 5), "status": None, **others},
        {**entry(2, now - 5), "updatedAt": None},
        {**entry(3, now - 5), "createdAt": "yesterday"},
        {**entry(4, now - 5), "startedAt": 7, "status": "ended"},
    ]

    async def answer(_: web.Request) -> web.Response:
        return web.json_response([*calls, [], "call", {"id": 5}])

    app = web.Application()
    app.router.add_get("/call", answer)
    async with TestServer(app) as server, ClientSession() as session:
        listed = await api(url=f"http://127.0.0.1:{server.port}").read(session, now - 60, now)
    assert {each.id: each.is_in_progress for each in listed.calls.values()} == {
        "1": True,
        "2": True,
        "4": False,
    }
    assert listed.calls["1"].assistant_id is None
    assert listed.calls["2"].updated_at == pytest.approx(now - 5, abs=0.01)


async def test_overrides_that_cannot_be_decoded_are_changed() -> None:
    now = time()

    async def calls(_: web.Request) -> web.Response:
        call = {**entry(1, now), "assistantOverrides": "?"}
        return web.Response(body=json.dumps([call]).encode().replace(b'"?"', b'{"a":"\xff"}'))

    app = web.Application()
    app.router.add_get("/call", calls)
    async with TestServer(app) as server, ClientSession() as session:
        listed = await api(url=str(server.make_url("/"))).read(session, now - 60, now)
    assert listed.calls["1"].changed == ("assistantOverrides",)


async def test_large_page_that_is_too_slow_is_read_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(call_api, "_TIMEOUT", ClientTimeout(total=0.5))
    monkeypatch.setattr(call_api, "_GOOD_PAGE_BYTES", 2**16)
    now = time()
    limits: list[int] = []

    async def calls(request: web.Request) -> web.StreamResponse:
        limits.append(int(request.query["limit"]))
        if limits[-1] < 50:
            return web.json_response([entry(1, now)])
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"[" + b" " * 2**17)
        await asyncio.sleep(5)
        return response

    app = web.Application()
    app.router.add_get("/call", calls)
    async with TestServer(app) as server, ClientSession() as session:
        listed = await api(url=str(server.make_url("/"))).read(session, now - 60, now)
        assert set(listed.calls) == {"1"}
        assert limits == [50, 25]
        monkeypatch.setattr(call_api, "_GOOD_PAGE_BYTES", 2**20)
        with pytest.raises(CallListError, match="timeout"):
            await api(url=str(server.make_url("/"))).read(session, now - 60, now)


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


async def test_answer_without_a_date_has_ours() -> None:
    async def calls(_: web.Request) -> web.Response:
        return web.json_response([], headers={"Date": "never"})

    app = web.Application()
    app.router.add_get("/call", calls)
    async with TestServer(app) as server, ClientSession() as session:
        listed = await api(url=str(server.make_url("/"))).read(session, 0, time())
    assert listed.date == pytest.approx(time(), abs=10)


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

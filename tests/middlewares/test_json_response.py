"""JSON responses are sent in one piece, with the same bytes that aiohttp sends."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from pytest_aiohttp import AiohttpClient

from middlewares.context import STARTED_AT
from middlewares.headers import JSON, JsonResponse
from rig.service import Service, claims, make_settings, running, sign
from rig.wire import connected, get, head, post, start_request

ORIGIN = "https://app.clinic.example"
KEY = web.ResponseKey("KEY", int)
NEW, OLD = b"HTTP/1.1", b"HTTP/1.0"
LAST = head("Connection: close", method="GET", path="/healthz")
REQUESTS = {
    "granted": start_request("pt_2"),
    "rate limited": start_request("pt_1"),
    "HTTP/1.0": start_request("pt_3").replace(NEW, OLD),
    "HTTP/1.0 with keep-alive": start_request("pt_4", "Connection: keep-alive").replace(NEW, OLD),
    "closed by the client": start_request("pt_5", "Connection: close"),
    "after 100 Continue": start_request("pt_6", "Expect: 100-continue"),
    "without a token": head(),
    "expired token": post(b"{}", token=sign(claims(exp=1))),
    "not a patient": post(b"{}", token=sign(claims(type="nurse"))),
    "malformed body": start_request("pt_7", body=b"{"),
    "body too large": start_request("pt_8", body=b" " * 70_000),
    "unsupported content type": start_request("pt_9").replace(b"application/json", b"text/plain"),
    "other method": head(method="DELETE"),
    "unknown path": get("/unknown"),
    "health": get("/healthz"),
    "HEAD": head(method="HEAD", path="/healthz"),
    "readiness": get("/readyz"),
    "not HTTP": b"\x00\r\n\r\n",
}
VARYING = (
    (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "<date>"),
    (r"dur=\d+\.\d{3}", "<duration>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<time>"),
    (r"Retry-After: \d+", "<seconds>"),
    (r"[0-9a-f]{32}", "<id>"),
)


async def exchange(service: Service, sent: bytes) -> str:
    """Send a request, and another one after it; return everything that is received."""
    async with connected(service) as (reader, writer):
        writer.write(sent + LAST)
        received = (await reader.read()).decode()
    for pattern, name in VARYING:
        received = re.sub(pattern, name, received)
    return received


async def exchange_all(
    requests: Mapping[str, bytes] = REQUESTS, **variables: str
) -> dict[str, str]:
    """Exchange each request with a new service; `pt_1` has used its rate limit."""
    async with running(make_settings(RATE_LIMIT="1/hour", **variables)) as service:
        await exchange(service, start_request("pt_1"))
        return {name: await exchange(service, sent) for name, sent in requests.items()}


@pytest.mark.parametrize("origins", ["", ORIGIN])
async def test_bytes_are_those_that_aiohttp_sends(
    monkeypatch: pytest.MonkeyPatch, origins: str
) -> None:
    received = await exchange_all(CORS_ALLOWED_ORIGINS=origins)
    monkeypatch.setattr(JsonResponse, "_suits", lambda *_: False)
    assert received == await exchange_all(CORS_ALLOWED_ORIGINS=origins)
    statuses = set(re.findall(r"HTTP/1.1 (\d+)", "".join(received.values())))
    assert statuses == {"100", "200", "400", "401", "403", "404", "405", "413", "415", "429"}


async def test_frequent_responses_are_sent_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.Response, "prepare", None)  # aiohttp cannot send a head
    sent = {name: REQUESTS[name] for name in ("granted", "without a token", "rate limited")}
    received = await exchange_all(sent)
    assert [each[9:12] for each in received.values()] == ["200", "401", "429"]


def whole(response: web.Response) -> tuple[object, ...]:
    """Return everything that a middleware of a host application can see."""
    kept = response.keep_alive, list(response.values()), response.cookies.output()
    return (response.status, response.reason, response.headers.copy(), response.text, *kept)


@pytest.mark.parametrize(
    "use",
    [
        lambda response: response.set_cookie("a", "b"),
        lambda response: response.set_status(404, "No Session"),
        lambda response: response.force_close(),
        lambda response: setattr(response, "text", "{}"),
        lambda response: response.update({KEY: 1}),
    ],
)
def test_response_can_be_used_like_any_other(use: Callable[[web.Response], None]) -> None:
    response = JsonResponse(b"[]", status=503, headers={"Retry-After": "1: 2"})
    other = web.Response(
        body=b"[]", status=503, headers={"Content-Type": JSON, "Retry-After": "1: 2"}
    )
    for each in (response, other):
        use(each)
    assert whole(response) == whole(other)


async def test_signals_of_a_host_application_change_the_headers(
    aiohttp_client: AiohttpClient,
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return JsonResponse(b"[]")

    async def add_header(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Host"] = "clinic"

    host_app = web.Application()
    host_app.router.add_get("/", handler)
    host_app.on_response_prepare.append(add_header)
    client = await aiohttp_client(host_app)
    assert (await client.get("/")).headers["X-Host"] == "clinic"


def test_unknown_attribute() -> None:
    response = JsonResponse(b"[]")
    with pytest.raises(AttributeError, match="unknown") as caught:
        _ = response.unknown
    assert (caught.value.name, caught.value.obj) == ("unknown", response)


async def test_prepare_writes_everything_and_returns_the_writer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("middlewares.headers.time", lambda: 0.9)
    response, incoming = JsonResponse(b"[]"), make_mocked_request("GET", "/")
    incoming[STARTED_AT] = 0.0
    write: Any = incoming.writer.write_eof
    assert await response.prepare(incoming) is incoming.writer
    [written] = write.call_args.args
    assert b"\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n" in written
    assert response.keep_alive

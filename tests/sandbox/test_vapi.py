"""The stand-in for Vapi, asked through a real socket."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import aiohttp
import jwt
import pytest
from aiohttp import web, web_runner
from aiohttp.test_utils import TestClient, TestServer
from pytest_aiohttp import AiohttpClient

from sandbox.failures import HUGE_BYTES
from sandbox.faults import SWITCH, UP, Behaviour, Fault
from sandbox.vapi import CALLS, PROMPT, REQUESTS, create_vapi

PRIVATE = "11111111-aaaa-4aaa-8aaa-111111111111"
PUBLIC = "22222222-bbbb-4bbb-8bbb-222222222222"
ORG = "33333333-cccc-4ccc-8ccc-333333333333"
ASSISTANT = "44444444-dddd-4ddd-8ddd-444444444444"
ORIGIN = "https://clinic.example"

Client = TestClient[web.Request, web.Application]


class PlainServer(TestServer):
    """Serves as in use: a client that leaves does not cancel the handler."""

    async def _make_runner(self, **kwargs: Any) -> web_runner.BaseRunner:
        return await super()._make_runner(**{**kwargs, "handler_cancellation": False})


@pytest.fixture
async def vapi(aiohttp_client: AiohttpClient) -> Client:
    """Serve the stand-in on a free port."""
    app = create_vapi(private_key=PRIVATE, public_key=PUBLIC, org_id=ORG, assistant_id=ASSISTANT)
    return cast("Client", await aiohttp_client(PlainServer(app)))


def session_token(
    *, key: str = PRIVATE, org: Any = ORG, tag: Any = "public", exp: float = 86400, **limits: Any
) -> str:
    """Sign a session token as the service does, each part replaceable.

    It lives long: some are made when tests are collected, and used when their turn comes.
    """
    claims = {
        "orgId": org,
        "token": {"tag": tag, "restrictions": {"enabled": True, **limits}},
        "exp": time.time() + exp,
    }
    return jwt.encode(claims, key, algorithm="HS256")


def narrow(**changes: Any) -> str:
    """Sign a token with the restrictions that the service sets."""
    limits = {"allowedAssistantIds": [ASSISTANT], "allowTransientAssistant": False}
    return session_token(**{**limits, **changes})


async def call_web(
    vapi: Client, credential: str, body: Any = None, **headers: str
) -> aiohttp.ClientResponse:
    """Ask for a web call with the assistant's id, or with another body."""
    sent = {"assistantId": ASSISTANT} if body is None else body
    all_headers = {"Authorization": f"Bearer {credential}", **headers}
    return await vapi.post("/call/web", json=sent, headers=all_headers)


async def test_assistant_needs_the_private_key(vapi: Client) -> None:
    """Only the private key reads an assistant, prompt and all."""
    path = f"/assistant/{ASSISTANT}"
    good = await vapi.get(path, headers={"Authorization": f"Bearer {PRIVATE}"})
    assert good.status == 200
    assert PROMPT in await good.text()
    for headers in ({}, {"Authorization": f"Bearer {PUBLIC}"}):
        bad = await vapi.get(path, headers=headers)
        assert bad.status == 401
        body = await bad.json()
        assert body["message"].startswith("Invalid Key. ")
        assert (body["error"], body["statusCode"]) == ("Unauthorized", 401)


async def test_unknown_assistant_and_path(vapi: Client) -> None:
    """Both are 404 in Vapi's error_response."""
    headers = {"Authorization": f"Bearer {PRIVATE}"}
    for path in ("/assistant/another", "/nowhere"):
        answer = await vapi.get(path, headers=headers)
        assert answer.status == 404
        assert (await answer.json())["error"] == "Not Found"


@pytest.mark.parametrize(
    ("credential", "kind"),
    [(PUBLIC, "public_key"), (session_token(), "session_token"), (narrow(), "session_token")],
)
async def test_accepts_and_records_a_call(vapi: Client, credential: str, kind: str) -> None:
    """The answer has the shape of a Call, and the record says who asked."""
    answer = await call_web(vapi, credential, Origin=ORIGIN)
    assert answer.status == 201
    call = await answer.json()
    assert call["transport"]["callUrl"] == call["webCallUrl"]
    assert call["webCallUrl"].startswith(str(vapi.make_url("/room/")))
    assert call["artifactPlan"] == {"videoRecordingEnabled": False}
    (recorded,) = vapi.app[CALLS]
    assert recorded.id == call["id"]
    assert (recorded.credential_type, recorded.origin) == (kind, ORIGIN)
    assert recorded.body == {"assistantId": ASSISTANT}


@pytest.mark.parametrize(
    "credential",
    [
        "",
        "rubbish",
        PRIVATE,
        narrow(exp=-1),
        narrow(key=PUBLIC),
        narrow(org="another"),
        narrow(org=7),
        narrow(tag="private"),
        narrow(enabled=False),
    ],
)
async def test_refuses_a_credential(vapi: Client, credential: str) -> None:
    """None of these is a key: 401, and nothing is recorded."""
    answer = await call_web(vapi, credential)
    assert answer.status == 401
    assert (await answer.json())["message"].startswith("Invalid Key. ")
    assert vapi.app[CALLS] == []


@pytest.mark.parametrize(
    ("credential", "body", "status", "message"),
    [
        (narrow(), {"assistantId": "other"}, 403, "Key doesn't allow assistantId 'other'"),
        (narrow(), {"assistant": {}}, 403, "Key doesn't allow transient assistant"),
        (
            session_token(allowTransientAssistant=False),
            {"assistant": {}},
            403,
            "Key doesn't allow transient assistant",
        ),
        (
            narrow(allowedOrigins=["https://x.test"]),
            None,
            403,
            f"Key doesn't allow origin '{ORIGIN}'",
        ),
        (PUBLIC, {"assistantId": "other"}, 400, "Couldn't Get Assistant"),
        (narrow(), {}, 400, "Couldn't Get Assistant"),
        (PUBLIC, [], 400, "Expected `object`"),
    ],
)
async def test_refuses_a_call(
    vapi: Client, credential: str, body: Any, status: int, message: str
) -> None:
    """What the credential does not allow is refused in Vapi's words."""
    answer = await call_web(vapi, credential, body, Origin=ORIGIN)
    assert answer.status == status
    assert (await answer.json())["message"].startswith(message)
    assert vapi.app[CALLS] == []


async def test_allows_a_listed_origin_and_a_transient_assistant(vapi: Client) -> None:
    """A token without a list of assistants may bring its own."""
    token = session_token(allowedOrigins=[ORIGIN])
    answer = await call_web(vapi, token, {"assistant": {"name": "own"}}, Origin=ORIGIN)
    assert answer.status == 201
    assert vapi.app[CALLS][0].assistant_id is None


async def test_open_to_every_origin(vapi: Client) -> None:
    """A browser's preflight passes, and errors can be read too."""
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    preflight = await vapi.options("/call/web", headers=headers)
    assert preflight.status == 204
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"]
    refused = await call_web(vapi, "rubbish")
    assert refused.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("status", [302, 401, 403, 404, 429, 500, 503])
async def test_fails_with_a_status_until_told_otherwise(vapi: Client, status: int) -> None:
    """The switch acts at once, both ways, and the record shows every request."""
    vapi.app[SWITCH].behaviour = Behaviour(Fault.STATUS, status=status)
    failed = await vapi.get("/assistant/x", allow_redirects=False)
    assert failed.status == status
    assert (await failed.json())["statusCode"] == status
    vapi.app[SWITCH].behaviour = UP
    assert (await call_web(vapi, PUBLIC)).status == 201
    requests = vapi.app[REQUESTS]
    assert list(requests) == ["GET /assistant/x", "POST /call/web"]


@pytest.mark.parametrize("fault", [Fault.JUNK, Fault.RESET])
async def test_breaks_the_protocol(vapi: Client, fault: Fault) -> None:
    """No answer that a client could take for HTTP."""
    vapi.app[SWITCH].behaviour = Behaviour(fault)
    with pytest.raises(aiohttp.ClientError):
        await vapi.get("/assistant/x")


async def test_sends_fifty_megabytes(vapi: Client) -> None:
    """The whole body comes when it is read."""
    vapi.app[SWITCH].behaviour = Behaviour(Fault.HUGE)
    answer = await vapi.get("/assistant/x")
    size = 0
    async for part in answer.content.iter_chunked(1 << 20):
        size += len(part)
    assert size == HUGE_BYTES


async def test_trickles_headers(vapi: Client) -> None:
    """A head that goes on until the client leaves."""
    vapi.app[SWITCH].behaviour = Behaviour(Fault.TRICKLE_HEADERS, pause=0)
    reader, writer = await asyncio.open_connection(vapi.host, vapi.port)
    writer.write(b"GET /assistant/x HTTP/1.1\r\nHost: vapi\r\n\r\n")
    assert await reader.readexactly(len(b"HTTP/1.1 200 OK")) == b"HTTP/1.1 200 OK"
    assert b"xxxx" in await reader.readuntil(b"xxxxxxxx")
    writer.close()
    await idle(vapi)


@pytest.mark.parametrize("fault", [Fault.TRICKLE_BODY, Fault.HUGE])
async def test_ends_a_body_that_nobody_reads(vapi: Client, fault: Fault) -> None:
    """A client that leaves ends the answer, without an error."""
    vapi.app[SWITCH].behaviour = Behaviour(fault, pause=0)
    answer = await vapi.get("/assistant/x")
    assert answer.status == 200
    answer.close()
    await idle(vapi)


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HUGE, Fault.TRICKLE_BODY])
async def test_closing_the_server_ends_what_is_stuck(vapi: Client, fault: Fault) -> None:
    """Nobody waits for a request that would never end."""
    vapi.app[SWITCH].behaviour = Behaviour(fault, pause=3600)
    request = asyncio.create_task(read_all(vapi))
    await until(lambda: bool(vapi.app[SWITCH].stuck))
    await vapi.server.close()
    await idle(vapi)
    with pytest.raises(aiohttp.ClientError):
        await request


async def read_all(vapi: Client) -> bytes:
    """Ask, and wait for the end of the answer."""
    async with vapi.get("/assistant/x") as answer:
        return await answer.read()


async def idle(vapi: Client) -> None:
    """Wait until no request is stuck."""
    await until(lambda: not vapi.app[SWITCH].stuck)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until something holds; the test's time limit stands over it."""
    while not holds():  # noqa: ASYNC110 - the stand-in announces nothing to wait for
        await asyncio.sleep(0)

"""The endpoint inside a host application."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp_jwt.middleware
import pytest
from aiohttp import ClientSession, web

from rig.service import ASSISTANT_ID, PATH, VARIABLES, make_settings, sign
from rig.vapi import vapi
from rig.waiting import eventually
from sandbox.vapi.call_list import CALLS
from server.app import mount
from tests.calls import CALL_VARIABLES, call, long_calls, proof
from tests.conftest import AuditLines
from tests.dpop import PUBLIC_URL, REQUIRE, App
from tests.host.existing_backend import DIARY, add_late_routes, create_backend

JSON = b"Content-Type: application/json\r\n"


def request(
    method: str, path: str, *, headers: bytes = b"", body: bytes = b"", length: bool = True
) -> bytes:
    """Return a raw request."""
    announced = b"Content-Length: %d\r\n" % len(body) if length and body else b""
    line = f"{method} {path} HTTP/1.1\r\nHost: backend\r\nConnection: close\r\n".encode()
    return line + headers + announced + b"\r\n" + body


MULTIPART = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    + b"z" * 5000
    + b"\r\n--x--\r\n"
)
UPGRADE = (
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
FRAMES = b"\x81\x85\x00\x00\x00\x00hello" + b"\x88\x80\x00\x00\x00\x00"

PATHS = ["/auth/login", "/auth/refresh", "/make-call", "/upload", "/stream", "/crash", "/missing"]
REQUESTS: list[bytes] = [
    *[request(method, path) for path in PATHS for method in ("GET", "HEAD", "OPTIONS", "DELETE")],
    request("POST", "/auth/login", headers=JSON, body=b'{"password":"right"}'),
    request("POST", "/auth/login", headers=JSON, body=b'{"password":"wrong"}'),
    request("POST", "/auth/refresh"),
    request("POST", "/make-call", headers=JSON, body=b'{"phoneNumber":"+1"}'),
    request("POST", "/make-call", headers=JSON, body=b"{}"),
    request("POST", "/make-call", headers=JSON, body=b"not json"),
    request(
        "POST", "/upload", headers=b"Content-Type: multipart/form-data; boundary=x\r\n",
        body=MULTIPART,
    ),
    request("GET", "/ws", headers=UPGRADE, body=FRAMES, length=False),
    request("GET", "/ws"),
    request("POST", "/missing", headers=b"Expect: 100-continue\r\n", body=b"x"),
    request("GET", "/api/v1/sessions/of-the-host"),
    request("GET", "/api/v1/sessions/vapi/of-the-host"),
    request("POST", "/api/v1/sessions/unknown/deeper"),
    request("GET", "/api/v1/sessions"),
    request("POST", "/api/v1/sessions/vapi/start/"),
    request("POST", "/api/v1/sessions/vapi/start/deeper", headers=JSON, body=b"{}"),
    request("GET", "/api/v1/sessions/jwks.json"),
    request("GET", "/api/v1/sessions/jwks.json/x"),
    b"garbage\r\n\r\n",
]  # fmt: skip

NOTHING: Mapping[str, str] = {}

Mounted = Callable[..., Awaitable[tuple[str, web.Application]]]


@pytest.fixture
async def backend() -> AsyncIterator[Mounted]:
    """Start the backend with the endpoint mounted at each prefix."""
    async with AsyncExitStack() as stack:

        async def start(
            variables: Mapping[str, str] = NOTHING, /, **prefixes: str
        ) -> tuple[str, web.Application]:
            app = create_backend()
            for prefix, assistant in prefixes.items():
                settings = make_settings(**variables, VAPI_ASSISTANT_ID=assistant)
                mount(app, settings, prefix="/" + prefix.replace("_", "/"))
            add_late_routes(app)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}", app

        yield start


async def exchange(port: int, data: bytes) -> bytes:
    """Send bytes on a new connection; return the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


async def say_everything(url: str) -> list[bytes]:
    """Send every request; return the responses without their dates."""
    port = int(url.rpartition(":")[2])
    answers = [await exchange(port, each) for each in REQUESTS]
    return [
        b"\r\n".join(line for line in answer.split(b"\r\n") if not line.startswith(b"Date:"))
        for answer in answers
    ]


async def test_host_routes_answer_byte_for_byte_as_before(
    backend: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(REQUESTS) >= 40
    alone, alone_app = await backend()
    alone_answers = await say_everything(alone)
    alone_log = [(record.name, record.getMessage()) for record in caplog.records]
    caplog.clear()
    shared, shared_app = await backend(api_v1_sessions="asst_1")
    assert await say_everything(shared) == alone_answers
    assert [(record.name, record.getMessage()) for record in caplog.records] == alone_log
    assert shared_app[DIARY].entries == alone_app[DIARY].entries


async def test_endpoint_answers_as_standalone(backend: Mounted, audit_lines: AuditLines) -> None:
    url, app = await backend(api_v1_sessions="asst_1")
    async with ClientSession() as client:
        headers = {"Authorization": f"Bearer {sign()}"}
        async with client.post(url + PATH, headers=headers) as granted:
            assert granted.status == 200
            assert (await granted.json())["data"]["assistantId"] == "asst_1"
            assert granted.headers["Cache-Control"] == "no-store"
            assert "Server" not in granted.headers
        async with client.post(url + PATH) as refused:
            assert refused.status == 401
            assert (await refused.json())["error"]["code"] == "AUTH_TOKEN_MISSING"
        async with client.get(url + PATH) as other_method:
            assert other_method.status == 405
            assert other_method.headers["Allow"] == "POST"
    assert [line["status"] for line in audit_lines()] == [200, 401, 405]
    assert app[DIARY].entries[0] == "started"


async def test_body_limit_is_the_setting_not_the_hosts(
    backend: Mounted,
) -> None:
    url, _ = await backend(api_v1_sessions="asst_1")
    too_large = b'{"x":"' + b"y" * 20_000 + b'"}'  # the host itself would take it
    headers = {"Authorization": f"Bearer {sign()}", "Content-Type": "application/json"}
    async with (
        ClientSession() as client,
        client.post(url + PATH, headers=headers, data=too_large) as response,
    ):
        assert response.status == 413


async def test_mounted_twice(backend: Mounted) -> None:
    url, _ = await backend(clinic_a="asst_a", clinic_b="asst_b")
    headers = {"Authorization": f"Bearer {sign()}"}
    async with ClientSession() as client:
        for prefix, assistant in {"/clinic/a": "asst_a", "/clinic/b": "asst_b"}.items():
            async with client.post(f"{url}{prefix}/vapi/start", headers=headers) as response:
                assert (await response.json())["data"]["assistantId"] == assistant


async def test_a_proof_is_for_the_path_of_the_mount(backend: Mounted) -> None:
    url, _ = await backend(REQUIRE, clinic="asst_1")
    app, path = App(), "/clinic/vapi/start"
    token = app.token()
    proofs = {app.proof(token, htu=PUBLIC_URL + path): 200, app.proof(token): 401}
    async with ClientSession() as client:
        for proof, status in proofs.items():
            async with client.post(url + path, headers=app.headers(token, proof)) as response:
                assert response.status == status


async def test_process_wide_state_is_unchanged(
    backend: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp_jwt.middleware, "_request_property", "the host's own")
    handlers, level = list(logging.root.handlers), logging.root.level
    await backend(api_v1_sessions="asst_1")
    assert aiohttp_jwt.middleware._request_property == "the host's own"
    assert (logging.root.handlers, logging.root.level) == (handlers, level)


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_host_scrape_has_no_additional_metrics(tmp_path: Path, enabled: str) -> None:
    variables = {
        **os.environ,
        **VARIABLES,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "METRICS_ENABLED": enabled,
    }
    command = [sys.executable, "-m", "tests.host.scraped_backend"]
    scraped = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    names = {line.split()[0] for line in scraped.stderr.splitlines() if not line.startswith("#")}
    assert names == {"visits_total"}


def test_invalid_prefix() -> None:
    with pytest.raises(ValueError, match="prefix"):
        mount(create_backend(), make_settings(**VARIABLES), prefix="api")


async def test_call_monitor_lives_and_ends_with_the_host(backend: Mounted) -> None:
    async with vapi(calls=long_calls()) as stand_in:
        monitored = {"CALL_MONITOR": "enforce", "CALL_MONITOR_SECONDS": "1", **CALL_VARIABLES}
        _, app = await backend({**monitored, "VAPI_BASE_URL": stand_in.url}, api_v1=ASSISTANT_ID)
        unknown = ""

        async def has_ended() -> bool:
            return unknown not in stand_in.app[CALLS].active

        async def is_read() -> bool:
            return "GET /call" in stand_in.requests

        await eventually(is_read)
        await call(stand_in, proof())
        unknown = await call(stand_in)
        await eventually(has_ended)
        await app.cleanup()
        asked = len(stand_in.requests)
        await asyncio.sleep(1.5)
        assert len(stand_in.requests) == asked

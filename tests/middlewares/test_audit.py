"""The request id, the trace id, and one audit line for each request."""

import json
import re
from collections.abc import Sequence
from hashlib import sha256
from hmac import new as hmac
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector, web
from aiohttp.typedefs import Handler
from hypothesis import given
from hypothesis import strategies as st
from pytest_aiohttp import AiohttpClient

from middlewares.audit import audit, request_id
from middlewares.context import CONTEXT, PRINCIPAL
from tests.middlewares.support import NAME, Alone, application, patient_with, send_raw

ORIGIN = {"Origin": "https://app.example"}
PREFLIGHT = {"Access-Control-Request-Method": "POST"}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
FORGED = '{"event":"vapi_session_start","outcome":"granted"}'


def read(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Parse audit lines; a control character inside a line would end it early."""
    for line in lines:
        assert not re.search(rb"[\x00-\x1f\x7f]", line)
    return [json.loads(line) for line in lines]


def responding(status: int) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status)

    return handler


async def test_line_has_exactly_these_fields_in_this_order(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("middlewares.audit.time", lambda: 1_769_851_800.5)
    monkeypatch.setattr("middlewares.audit.perf_counter", iter([100.0, 101.2345678]).__next__)
    lines: list[bytes] = []
    given = {
        PRINCIPAL: patient_with(patient_id="pt_7"),
        "credential_type": "public_key",
        "proof_id": "proof-1",
        "assistant_id": "assistant-1",
        "consent": {"recording": "2"},
        "reason": "role",
    }
    client = await alone(audit(event=NAME, write=lines.append), given=given)
    headers = {"X-Request-ID": "abc.1", "traceparent": TRACEPARENT}
    await client.post("/", headers=headers, data=b"the body")
    [line] = read(lines)
    expected = {
        "event": NAME,
        "timestamp": "2026-01-31T09:30:00.500Z",
        "request_id": "abc.1",
        "trace_id": TRACE_ID,
        "outcome": "granted",
        "status": 200,
        "code": None,
        "patient": "pt_7",
        "credential_type": "public_key",
        "proof_id": "proof-1",
        "duration_ms": 1234.568,
        "client": "127.0.0.1",
        "peer": "127.0.0.1",
        "assistant_id": "assistant-1",
        "consent": {"recording": "2"},
        "reason": None,
    }
    assert list(line.items()) == list(expected.items())


@pytest.mark.parametrize(("status", "granted"), [(200, 1), (201, 0), (401, 0), (503, 0)])
async def test_only_a_200_is_granted_and_refusals_are_written_apart(
    alone: Alone, status: int, granted: int
) -> None:
    lines: list[bytes] = []
    refusals: list[bytes] = []
    middleware = audit(event=NAME, write=lines.append, write_refusal=refusals.append)
    given = {"error_code": "FORBIDDEN"}
    await send_raw(await alone(middleware, handler=responding(status), given=given))
    assert (len(lines), len(refusals)) == (granted, 1 - granted)
    [line] = read(lines + refusals)
    expected = (None, "granted") if granted else ("FORBIDDEN", "denied")
    assert (line["code"], line["outcome"]) == expected


async def test_denied_request_has_a_reason_and_nothing_that_was_issued(alone: Alone) -> None:
    lines: list[bytes] = []
    issued = {"credential_type": "public_key", "proof_id": "proof-1", "assistant_id": "assistant-1"}
    given = {**issued, "consent": {"recording": "2"}, "reason": "role"}
    middleware = audit(event=NAME, write=lines.append)
    await send_raw(await alone(middleware, handler=responding(504), given=given))
    [line] = read(lines)
    assert [line[name] for name in given] == [None, None, None, None, "role"]


@pytest.mark.parametrize(
    ("headers", "trace_id"),
    [
        ([], None),
        ([f"TraceParent:  {TRACEPARENT} "], TRACE_ID),
        ([f"traceparent: {TRACEPARENT}"] * 2, None),
        (["traceparent: \xff"], None),
    ],
)
async def test_trace_id_is_that_of_a_valid_traceparent(
    alone: Alone, headers: list[str], trace_id: str | None
) -> None:
    lines: list[bytes] = []
    client = await alone(audit(event=NAME, write=lines.append))
    await send_raw(client, *(header.encode("latin-1") for header in headers))
    assert read(lines)[0]["trace_id"] == trace_id


async def test_longest_line_fits_into_one_write_to_a_pipe(alone: Alone) -> None:
    lines: list[bytes] = []
    given = {
        PRINCIPAL: patient_with(patient_id="|" * 128),
        "credential_type": "session_token",
        "proof_id": "x" * 22,
        "error_code": "INVALID_PATIENT_CONTEXT",
    }
    middleware = audit(event=NAME, write=lines.append, trusted_proxies=["127.0.0.0/8"])
    longest = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"
    headers = {
        "X-Request-ID": "x" * 128,
        "traceparent": TRACEPARENT,
        "X-Forwarded-For": f"[{longest}]:65535",
    }
    client = await alone(middleware, given=given)
    await client.post("/", headers=headers)
    [line] = lines
    assert longest.encode() in line
    assert 500 < len(line) < 4096


@pytest.mark.parametrize("trusted", [(), ("0.0.0.0/0", "::/0")])
async def test_request_over_a_unix_domain_socket_has_no_addresses(
    tmp_path: Path, trusted: tuple[str, ...]
) -> None:
    lines: list[bytes] = []
    middleware = audit(event=NAME, write=lines.append, trusted_proxies=trusted)
    runner = web.AppRunner(application(middleware))
    await runner.setup()
    await web.UnixSite(runner, tmp_path / "socket").start()
    async with ClientSession(connector=UnixConnector(str(tmp_path / "socket"))) as client:
        await client.post("http://here/", headers={"X-Forwarded-For": "192.0.2.1"})
    await runner.cleanup()
    [line] = read(lines)
    assert (line["client"], line["peer"]) == (None, None)


@pytest.mark.parametrize(
    ("method", "headers", "count"),
    [
        ("OPTIONS", {**ORIGIN, **PREFLIGHT}, 0),
        ("OPTIONS", ORIGIN, 1),
        ("OPTIONS", PREFLIGHT, 1),
        ("OPTIONS", {}, 1),
        ("POST", {**ORIGIN, **PREFLIGHT}, 1),
    ],
)
async def test_preflight_has_no_line_but_any_other_options_request_has(
    alone: Alone, method: str, headers: dict[str, str], count: int
) -> None:
    lines: list[bytes] = []
    client = await alone(audit(event=NAME, write=lines.append))
    await client.request(method, "/", headers=headers)
    assert len(lines) == count


@pytest.mark.parametrize("path", ["/other", "/nameless", "/nowhere"])
async def test_other_routes_have_a_request_id_and_no_line(
    path: str, aiohttp_client: AiohttpClient
) -> None:
    ids: list[str] = []
    lines: list[bytes] = []

    async def note(request: web.Request) -> web.Response:
        ids.append(request[CONTEXT].request_id)
        return web.Response()

    app = application(audit(event=NAME, write=lines.append))
    app.router.add_get("/other", note, name="other")
    app.router.add_get("/nameless", note)
    client = await aiohttp_client(app)
    await client.get(path, headers={"X-Request-ID": "mine"})
    assert lines == []
    assert ids == ([] if path == "/nowhere" else ["mine"])
    await client.get("/")
    assert len(lines) == 1


def test_generated_request_ids_differ() -> None:
    ids = {request_id(offered) for offered in [None, ""] * 50}
    assert len(ids) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


@given(st.text())
def test_request_id_is_always_short_and_plain(value: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", request_id(value))


@pytest.mark.parametrize("key", [b"", b"key"])
@pytest.mark.parametrize("patient_id", ["pt_7", "a\n" + FORGED, "\x00\x1b[2J", '"}'])
async def test_patient_is_named_by_id_or_hmac_and_cannot_forge_a_line(
    alone: Alone, patient_id: str, key: bytes
) -> None:
    lines: list[bytes] = []
    middleware = audit(event=NAME, write=lines.append, hash_key=key)
    await send_raw(await alone(middleware, given={PRINCIPAL: patient_with(patient_id=patient_id)}))
    [line] = read(lines)
    hashed = hmac(key, patient_id.encode(), sha256).hexdigest()
    assert line["patient"] == (hashed if key else patient_id)

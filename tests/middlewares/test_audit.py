"""The request id, and the one audit line of each request."""

import asyncio
import json
import re
from collections.abc import Sequence
from hashlib import sha256
from hmac import new as hmac
from typing import Any, NoReturn

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from hypothesis import given
from hypothesis import strategies as st
from pytest_aiohttp import AiohttpClient

from middlewares.audit import audit, request_id
from middlewares.request_context import CREDENTIAL_TYPE, ERROR_CODE, PRINCIPAL, PROOF_ID, REQUEST_ID
from tests.middlewares.support import NAME, Alone, application, hello, patient_with, say

OWN_ID = re.compile(r"[0-9a-f]{32}")
ORIGIN = {"Origin": "https://app.example"}
ASKING = {"Access-Control-Request-Method": "POST"}
FORGED = '{"event":"vapi_session_start","outcome":"granted"}'


def read(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Read lines as whoever collects them does, and hold them to be lines."""
    for line in lines:
        assert not re.search(rb"[\x00-\x1f\x7f]", line)
    return [json.loads(line) for line in lines]


def answering(status: int) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status)

    return handler


async def test_a_line_holds_these_fields_and_no_others(alone: Alone) -> None:
    lines: list[bytes] = []
    given = {
        PRINCIPAL: patient_with(patient_id="pt_7"),
        CREDENTIAL_TYPE: "public_key",
        PROOF_ID: "kJ0pVhC1X5o4bQ2Zt8sYwA",
    }
    client = await alone(audit(event=NAME, write=lines.append), given=given)
    await client.post("/", headers={"X-Request-ID": "abc.1"}, data=b"the body")
    [line] = read(lines)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line.pop("duration_ms") >= 0
    assert line == {
        "event": NAME,
        "request_id": "abc.1",
        "outcome": "granted",
        "status": 200,
        "code": None,
        "patient": "pt_7",
        "credential_type": "public_key",
        "proof_id": "kJ0pVhC1X5o4bQ2Zt8sYwA",
        "client": "127.0.0.1",
    }


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "granted"), (201, "denied"), (400, "denied"), (401, "denied"), (503, "denied")],
)
async def test_only_a_200_is_granted(alone: Alone, status: int, outcome: str) -> None:
    lines: list[bytes] = []
    client = await alone(audit(event=NAME, write=lines.append), handler=answering(status))
    await say(client)
    [line] = read(lines)
    assert (line["status"], line["outcome"]) == (status, outcome)


async def test_a_refusal_is_noted_with_its_code_and_a_stranger_without_a_name(
    alone: Alone,
) -> None:
    lines: list[bytes] = []
    link = audit(event=NAME, write=lines.append, hash_key=b"key")
    given = {ERROR_CODE: "AUTH_TOKEN_MISSING"}
    await say(await alone(link, handler=answering(401), given=given))
    [line] = read(lines)
    assert (line["code"], line["patient"]) == ("AUTH_TOKEN_MISSING", None)


async def test_a_caller_without_a_usable_id_is_noted_without_one(alone: Alone) -> None:
    lines: list[bytes] = []
    link = audit(event=NAME, write=lines.append, hash_key=b"key")
    await say(await alone(link, given={PRINCIPAL: patient_with(patient_id=None)}))
    assert read(lines)[0]["patient"] is None


async def test_with_a_hash_key_the_line_holds_the_hmac_in_place_of_the_patient(
    alone: Alone,
) -> None:
    lines: list[bytes] = []
    link = audit(event=NAME, write=lines.append, hash_key=b"a key")
    await say(await alone(link, given={PRINCIPAL: patient_with(patient_id="pt_7")}))
    assert read(lines)[0]["patient"] == hmac(b"a key", b"pt_7", sha256).hexdigest()
    assert b"pt_7" not in lines[0]


async def test_each_request_leaves_a_line_of_its_own(alone: Alone) -> None:
    lines: list[bytes] = []
    client = await alone(audit(event=NAME, write=lines.append))
    offered = [f"request-{number}" for number in range(20)]
    await asyncio.gather(*(client.post("/", headers={"X-Request-ID": id_}) for id_ in offered))
    assert sorted(line["request_id"] for line in read(lines)) == sorted(offered)


async def test_a_client_that_leaves_before_its_answer_is_noted_as_499(alone: Alone) -> None:
    started, written = asyncio.Event(), asyncio.Event()
    lines: list[bytes] = []

    def write(line: bytes) -> None:
        lines.append(line)
        written.set()

    async def forever(_: web.Request) -> NoReturn:
        started.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    client = await alone(audit(event=NAME, write=write), handler=forever)
    _, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: here\r\n\r\n")
    await started.wait()
    assert lines == []
    writer.close()
    await written.wait()
    [line] = read(lines)
    assert (line["status"], line["outcome"], line["code"]) == (499, "denied", None)


@pytest.mark.parametrize(
    ("method", "headers", "count"),
    [
        ("OPTIONS", {**ORIGIN, **ASKING}, 0),
        ("OPTIONS", ORIGIN, 1),
        ("OPTIONS", ASKING, 1),
        ("OPTIONS", {}, 1),
        ("POST", {**ORIGIN, **ASKING}, 1),
    ],
)
async def test_a_preflight_is_no_request_to_the_endpoint_but_any_other_options_is(
    alone: Alone, method: str, headers: dict[str, str], count: int
) -> None:
    lines: list[bytes] = []
    client = await alone(audit(event=NAME, write=lines.append))
    await client.request(method, "/", headers=headers)
    assert len(lines) == count


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_a_method_that_the_endpoint_does_not_take_is_audited(
    alone: Alone, method: str
) -> None:
    lines: list[bytes] = []
    client = await alone(audit(event=NAME, write=lines.append), handler=answering(405))
    await client.request(method, "/")
    assert [line["status"] for line in read(lines)] == [405]


@pytest.mark.parametrize("path", ["/other", "/nameless", "/nowhere"])
async def test_other_routes_are_not_audited_but_named_all_the_same(
    path: str, aiohttp_client: AiohttpClient
) -> None:
    ids: list[str] = []
    lines: list[bytes] = []

    async def note(request: web.Request) -> web.Response:
        ids.append(request[REQUEST_ID])
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


async def test_it_audits_its_route_inside_a_sub_application_too(
    aiohttp_client: AiohttpClient,
) -> None:
    lines: list[bytes] = []
    sub = application(audit(event=NAME, write=lines.append))
    host = web.Application()
    host.router.add_get("/", hello, name=NAME)
    host.add_subapp("/sub", sub)
    client = await aiohttp_client(host)
    await client.get("/")
    assert lines == []
    await client.post("/sub/")
    assert len(lines) == 1


@pytest.mark.parametrize("offered", ["a", "A-Z.a_z-09", "x" * 128, "0"])
def test_a_well_formed_request_id_is_kept(offered: str) -> None:
    assert request_id(offered) == offered


@pytest.mark.parametrize(
    "offered",
    [
        "",
        "x" * 129,
        "a b",
        "a\n",
        "\na",
        "a\r\nb",
        "a/b",
        "ä",
        "a\x00",
        "a\u2028",
        "٣",
        '"',
        FORGED,
    ],
)
def test_any_other_request_id_is_replaced_by_one_of_our_own(offered: str) -> None:
    assert OWN_ID.fullmatch(request_id(offered))


def test_no_two_of_our_own_ids_are_alike() -> None:
    assert len({request_id("") for _ in range(100)}) == 100


@given(st.text())
def test_whatever_is_offered_an_id_is_short_and_plain(offered: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", request_id(offered))


@pytest.mark.parametrize(
    "header",
    [
        b"X-Request-ID: \xff\xfe",
        b"X-Request-ID: a\xc2\x85b",
        "X-Request-ID: a\u2028b".encode(),
        b"X-Request-ID: a\tb",
        b"X-Request-ID: " + FORGED.encode(),
        b"X-Request-ID: %0a%0d" + FORGED.encode(),
        b'X-Request-ID: "}\\n' + FORGED.encode(),
    ],
)
async def test_no_byte_of_an_odd_request_id_reaches_the_line(alone: Alone, header: bytes) -> None:
    lines: list[bytes] = []
    heard = await say(await alone(audit(event=NAME, write=lines.append)), header)
    assert heard.status == 200
    [line] = read(lines)
    assert OWN_ID.fullmatch(line["request_id"])
    assert line["outcome"] == "granted"


@pytest.mark.parametrize(
    "break_", [b"\n", b"\r", b"\r\n ", b"\r\n\t", b"\x00", b"\x0b", b"\x1b[2J"]
)
async def test_a_line_break_in_a_header_makes_no_line_at_all(alone: Alone, break_: bytes) -> None:
    lines: list[bytes] = []
    client = await alone(audit(event=NAME, write=lines.append))
    heard = await say(client, b"X-Request-ID: a" + break_ + FORGED.encode())
    assert heard.status == 400
    assert lines == []


@pytest.mark.parametrize("key", [b"", b"key"])
@pytest.mark.parametrize("patient_id", ["a\n" + FORGED, "a\r\nb", "\x00", "\x1b[2J", '"}'])
async def test_line_breaks_in_a_patient_id_would_not_forge_a_line_either(
    alone: Alone, patient_id: str, key: bytes
) -> None:
    lines: list[bytes] = []
    link = audit(event=NAME, write=lines.append, hash_key=key)
    await say(await alone(link, given={PRINCIPAL: patient_with(patient_id=patient_id)}))
    [line] = read(lines)
    hashed = hmac(key, patient_id.encode(), sha256).hexdigest()
    assert line["patient"] == (hashed if key else patient_id)


async def test_nothing_else_of_a_request_is_in_its_line(alone: Alone) -> None:
    lines: list[bytes] = []
    client = await alone(audit(event=NAME, write=lines.append))
    await client.post(
        "/?token=marked",
        headers={"Authorization": "Bearer marked", "User-Agent": "marked", "Cookie": "a=marked"},
        data=b"marked",
    )
    assert b"marked" not in lines[0]

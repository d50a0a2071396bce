"""Requests on one connection: pipelined, divided into segments, chunked, or malformed."""

import asyncio
import random

import pytest

from rig.service import PATH, Service, sign
from rig.wire import WireAnswer, dial, exchange, head, post
from server.serving.connection import Connection
from tests.conftest import AuditLines, Serve
from tests.test_contract import assert_envelope

TOKEN = sign()
JSON = "Content-Type: application/json"
CHUNKED = head("Transfer-Encoding: chunked", JSON, token=TOKEN)
GET = head(method="GET", path="/healthz")


def get(request_id: str) -> bytes:
    return head(f"X-Request-ID: {request_id}", method="GET", path="/healthz")


async def test_pipelined_requests_are_answered_in_order(service: Service) -> None:
    ids = [f"request-{number}" for number in range(300)]
    async with dial(service) as wire:
        await wire.send(b"".join(map(get, ids)))
        assert [(await wire.answer()).headers["X-Request-ID"] for _ in ids] == ids


@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_pipelined_requests_do_not_delay_other_connections(
    service: Service, audit_lines: AuditLines, body: bytes
) -> None:
    async with dial(service) as first, dial(service) as second:
        await first.send(post(body, "X-Request-ID: a") * 10)
        await second.send(post(body, "X-Request-ID: b") * 10)
        for wire in (first, second):
            assert [(await wire.answer()).status for _ in range(10)] == [401] * 10
    order = "".join(line["request_id"] for line in audit_lines())
    assert order not in {"a" * 10 + "b" * 10, "b" * 10 + "a" * 10}


def chunks(body: bytes, chance: random.Random) -> bytes:
    """Return the body in chunks of random sizes, with an extension and a trailer field."""
    encoded = b""
    while body:
        size = chance.randint(1, len(body))
        encoded += b"%x;a=b\r\n%b\r\n" % (size, body[:size])
        body = body[size:]
    return encoded + b"0\r\nTrailer: a\r\n\r\n"


def random_request(chance: random.Random) -> tuple[bytes, int]:
    """Return a request, and the status of its response."""
    filler = "X-A: " + "a" * chance.choice([0, 10, 3000, 5000, 12_000])
    json = b" " * chance.choice([0, 100, 2000, 16_000]) + b"{}"
    mismatch = '{"patientContext": {"id": "pt_2", "name": "Zoë 😀"}}'.encode()
    chunked = head("Transfer-Encoding: chunked", JSON, filler)
    kinds = [
        (get("a"), 200),
        (b"\r\n" + head(filler, method="GET", path="/nowhere"), 404),
        (head(filler, "Content-Length: 2") + b"{}", 401),
        (head("Content-Length: 20000") + b"a" * 20_000, 401),
        (chunked + chunks(b"a" * chance.choice([1, 3000]), chance), 401),
        (CHUNKED + chunks(json, chance), 200),
        (post(json, filler, token=TOKEN), 200),
        (post(b'{"patientContext":\r\n\r\n{"id": "pt_1"}}', token=TOKEN), 200),
        (post(mismatch, "X-B: Zoë 😀", filler, token=TOKEN), 403),
        (post(b"[]", token=TOKEN), 400),
    ]
    return chance.choice(kinds)


async def test_parts_are_read_one_by_one(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the tests of segments show nothing."""
    read: list[bytes] = []
    receive = Connection.data_received

    def record(self: Connection, data: bytes) -> None:
        read.append(bytes(data))
        receive(self, data)

    monkeypatch.setattr(Connection, "data_received", record)
    parts = [GET[:1], GET[1:2], GET[2:]]
    async with dial(service) as wire:
        await wire.send_parts(*parts)
        assert (await wire.answer()).status == 200
    assert read == parts


@pytest.mark.parametrize("seed", range(16))
async def test_responses_do_not_depend_on_the_segments(serve: Serve, seed: int) -> None:
    service = await serve(RATE_LIMIT="off")
    chance = random.Random(seed)
    requests = [random_request(chance) for _ in range(chance.randint(1, 12))]
    sent = b"".join(request for request, _ in requests)
    async with dial(service) as wire, asyncio.TaskGroup() as group:

        async def send(rest: bytes = sent) -> None:
            while rest:
                size = chance.choice([1, 10, 1000, 4096, 9000, 50_000])
                await wire.send_parts(rest[:size])
                rest = rest[size:]
            wire.end()

        group.create_task(send())
        statuses = [(await wire.answer()).status for _ in requests]
        assert await wire.rest() == b""
    assert statuses == [status for _, status in requests]


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        (b"2;a=" + b"b" * 900 + b"\r\n{}\r\n0\r\n\r\n", 200),
        (b"2\r\n{}\r\n0\r\nTrailer: " + b"a" * 900 + b"\r\n\r\n", 200),
        (b"2;a=" + b"b" * 5000 + b"\r\n{}\r\n0\r\n\r\n", 400),
        (b"2\r\n{}\r\n0\r\nTrailer: " + b"a" * 5000 + b"\r\n\r\n", 400),
        (b"2\r\n{}\r\n0\r\n" + b"Trailer: a\r\n" * 1000 + b"\r\n", 400),
        (b"1\r\n{\r\n" + b"1\r\n \r\n" * 10_000 + b"1\r\n}\r\n0\r\n\r\n", 200),
        (b"2\r\n{}\r\nnonsense\r\n", 400),
    ],
    ids=["extension", "trailer", "long extension", "long trailer", "trailers", "bytes", "nonsense"],
)
async def test_framing_of_chunks_is_limited(service: Service, framing: bytes, status: int) -> None:
    async with dial(service) as wire:
        await wire.send(CHUNKED + framing)
        assert (await wire.answer()).status == status
        if status == 400:
            assert await wire.rest() == b""


@pytest.mark.parametrize(
    "request_",
    [
        head("Connection: Upgrade", "Upgrade: websocket", method="GET", path="/healthz"),
        head("Connection: Upgrade", "Upgrade: h2c", method="GET", path="/healthz"),
        b"CONNECT service:443 HTTP/1.1\r\nHost: service:443\r\n\r\n",
    ],
    ids=["websocket", "h2c", "CONNECT"],
)
async def test_response_to_an_upgrade_ends_the_connection(
    service: Service, request_: bytes
) -> None:
    async with dial(service) as wire:
        await wire.send(request_ + get("a") * 3)
        answer = await wire.answer()
        assert answer.status == (404 if request_.startswith(b"CONNECT") else 200)
        assert answer.headers["Connection"] == "close"
        assert await wire.rest() == b""


async def test_http_1_0_needs_no_host_and_closes(service: Service) -> None:
    async with dial(service) as wire:
        await wire.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await wire.answer()).status == 200
        assert await wire.rest() == b""


async def test_absolute_form_of_the_target_is_accepted(service: Service) -> None:
    answer = await exchange(service, post(b"{}", token=TOKEN).replace(b" /", b" http://a/", 1))
    assert answer.status == 200


@pytest.mark.parametrize("announced", ["Content-Length: 5000000", "Transfer-Encoding: chunked"])
async def test_unauthenticated_body_is_not_needed_for_the_response(
    service: Service, announced: str, audit_lines: AuditLines
) -> None:
    async with dial(service) as wire:
        await wire.send(head(announced, JSON))
        assert (await wire.answer()).code == "AUTH_TOKEN_MISSING"
        sending = asyncio.create_task(wire.send(b"1000\r\n" + b"a" * 0x1000 + b"\r\n" * 1000))
        assert await wire.rest() == b""
        await sending
    assert [line["code"] for line in audit_lines()] == ["AUTH_TOKEN_MISSING"]


BODIES = (
    b"",
    GET,
    post(b"{}", token=TOKEN),
    CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    post(b" " * 3000 + b"{}", token=TOKEN),
    CHUNKED + b"7d2\r\n" + b" " * 2000 + b"{}\r\n0\r\nTrailer: a\r\n\r\n",
)


async def rejected(service: Service, sent: bytes, before: bytes = b"") -> WireAnswer:
    """Send `before`, whose requests succeed, and `sent`; return the last response."""
    async with dial(service) as wire:
        await wire.send(before + sent)
        for _ in range(before.count(b" HTTP/1.1")):
            assert (await wire.answer()).status == 200
        answer = await wire.answer()
        assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
        assert_envelope(answer)
        assert await wire.rest() == b""
    return answer


@pytest.mark.parametrize(
    "line",
    [
        "GET /healthz RTSP/1.0",
        "SOURCE /healthz ICE/1.0",
        "GET /healthz HTTP/0.9",
        "GET /healthz HTTP/2.0",
        "GET /healthz HTTP/3.0",
        "GET /healthz http/1.1",
        "GET /healthz HTTP/1",
        "GET /healthz",
        *(f"{method} {PATH} HTTP/1.1" for method in ("GETS", "FOO", "get", "G@T", "PRI")),
    ],
)
async def test_request_line_that_is_not_well_formed(serve: Serve, line: str) -> None:
    service = await serve(RATE_LIMIT="off")
    for before in BODIES:
        for filler in (b"", b"a" * 5000 + b"-HTTP/1.1"):
            sent = line.encode() + b"\r\nHost: a\r\nX-A: " + filler + b"\r\n\r\n"
            await rejected(service, sent, before)


@pytest.mark.parametrize("size", [3900, 4080, 5000, 30_000])
@pytest.mark.parametrize("protocol", ["RTSP/1.0", "HTTP/1.1"])
async def test_protocol_after_a_long_target(service: Service, size: int, protocol: str) -> None:
    sent = f"GET /healthz?{'a' * size} {protocol}\r\nHost: a\r\n\r\n".encode()
    if protocol == "RTSP/1.0":
        await rejected(service, sent)
        return
    async with dial(service) as wire:
        await wire.send(sent)
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize("before", [b"", b"\r\n", GET])
async def test_protocol_in_several_segments(service: Service, before: bytes) -> None:
    sent = before + GET.replace(b"HTTP/", b"RTSP/")
    for step in (1, 7, 25):
        await assert_rejected_in_segments(service, sent, step, before)


async def assert_rejected_in_segments(
    service: Service, sent: bytes, step: int, before: bytes
) -> None:
    async with dial(service) as wire:
        await wire.send_parts(*(sent[start : start + step] for start in range(0, len(sent), step)))
        if before == GET:
            assert (await wire.answer()).status == 200
        assert (await wire.answer()).code == "INVALID_REQUEST"
        assert await wire.rest() == b""


@pytest.mark.parametrize("host", ["a b", "a\tb", "a b:80", "a\x7f"])
async def test_host_with_white_space_or_control_characters(service: Service, host: str) -> None:
    await rejected(service, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), GET)


@pytest.mark.parametrize(
    ("version", "lines"),
    [
        (b"HTTP/1.1", ["Transfer-Encoding: gzip, chunked"]),
        (b"HTTP/1.1", ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"]),
        (b"HTTP/1.1", ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]),
        (b"HTTP/1.1", ["Transfer-Encoding: chunked, chunked"]),
        (b"HTTP/1.1", ["Transfer-Encoding: identity"]),
        (b"HTTP/1.1", ["Transfer-Encoding: gzip"]),
        (b"HTTP/1.1", ["Transfer-Encoding: chunked", "Content-Length: 2"]),
        (b"HTTP/1.0", ["Transfer-Encoding: chunked"]),
        (b"HTTP/1.0", ["Transfer-Encoding: gzip, chunked"]),
        (b"HTTP/1.0", ["Transfer-Encoding: gzip"]),
        (b"HTTP/1.0", ["Transfer-Encoding: identity"]),
    ],
)
async def test_transfer_coding_other_than_chunked_alone(
    service: Service, version: bytes, lines: list[str], audit_lines: AuditLines
) -> None:
    sent = head(*lines, token=TOKEN).replace(b"HTTP/1.1", version, 1)
    await rejected(service, sent + b"2\r\n{}\r\n0\r\n\r\n")
    assert audit_lines() == []


async def test_chunked_in_capitals_is_accepted(service: Service) -> None:
    async with dial(service) as wire:
        await wire.send(CHUNKED.replace(b"chunked", b"Chunked") + b"2\r\n{}\r\n0\r\n\r\n")
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize(
    "after",
    [
        *(b"{}", b"[]", b"x", b"\r\n{}", b"{}\r\n\r\n", b"\xff", b"garbage\r\n\r\n", b"\0"),
        b"\x16\x03\x01",
    ],
)
async def test_complete_requests_are_answered_whatever_follows(
    serve: Serve, after: bytes, audit_lines: AuditLines
) -> None:
    service = await serve(RATE_LIMIT="off")
    requests = [
        GET,
        head(token=TOKEN),
        head("Content-Length: 0", token=TOKEN),
        post(b"{}", token=TOKEN),
        CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    ]
    for request in requests:
        async with dial(service) as wire:
            await wire.send(request * 3 + after)
            assert [(await wire.answer()).status for _ in range(3)] == [200] * 3
            wire.end()
            answer = await wire.answer()
            assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
            assert await wire.rest() == b""
    assert [line["outcome"] for line in audit_lines()] == ["granted"] * 12


def fields(count: int) -> bytes:
    """Return a request with this number of header fields, `Host` included."""
    return head(*(f"X-{number}: a" for number in range(count - 1)), method="GET", path="/healthz")


async def test_up_to_100_header_fields_are_accepted(service: Service) -> None:
    async with dial(service) as wire:
        for _ in range(2):
            await wire.send(fields(100))
            assert (await wire.answer()).status == 200
    for count in (101, 128, 500):
        assert "100 header fields" in (await rejected(service, fields(count), GET)).details


async def test_details_name_the_limit_of_a_head(service: Service) -> None:
    large = head(f"X-A: {'a' * 33_000}", method="GET", path="/healthz")
    assert "32768 bytes" in (await rejected(service, large, GET)).details

"""What the HTTP parser accepts and the service does not: each gets the envelope, and a close."""

import pytest

from rig.service import Service, sign
from rig.wire import WireAnswer, dial, head, post
from tests.conftest import AuditLines
from tests.test_contract import assert_envelope

TOKEN = sign()
GET = head(method="GET", path="/healthz")
CHUNKED = head("Transfer-Encoding: chunked", "Content-Type: application/json", token=TOKEN)
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


@pytest.mark.parametrize("protocol", ["RTSP/1.0", "ICE/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1"])
@pytest.mark.parametrize("before", BODIES)
@pytest.mark.parametrize("filler", [0, 5000])
async def test_other_protocol(service: Service, protocol: str, before: bytes, filler: int) -> None:
    line = f"SOURCE /healthz {protocol}" if protocol[0] == "I" else f"GET /healthz {protocol}"
    sent = f"{line}\r\nHost: a\r\nX-A: {'a' * filler} HTTP/1.1\r\n\r\n".encode()
    sent = sent.replace(b" HTTP/1.1", b"-HTTP/1.1")
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


@pytest.mark.parametrize("step", [1, 7, 25])
@pytest.mark.parametrize("before", [b"", b"\r\n", GET])
async def test_protocol_in_several_segments(service: Service, step: int, before: bytes) -> None:
    sent = before + GET.replace(b"HTTP/", b"RTSP/")
    async with dial(service) as wire:
        for start in range(0, len(sent), step):
            await wire.send(sent[start : start + step])
        if before == GET:
            assert (await wire.answer()).status == 200
        assert (await wire.answer()).code == "INVALID_REQUEST"
        assert await wire.rest() == b""


@pytest.mark.parametrize("host", ["a b", "a\tb", "a b:80", "a\x7f"])
async def test_host_with_white_space_or_control_characters(service: Service, host: str) -> None:
    await rejected(service, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), GET)


@pytest.mark.parametrize("coding", ["chunked", "gzip, chunked", "gzip", "identity"])
async def test_http_1_0_with_transfer_encoding(service: Service, coding: str) -> None:
    line = f"Transfer-Encoding: {coding}"
    sent = head(line, token=TOKEN).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    await rejected(service, sent + b"2\r\n{}\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "lines",
    [
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding: chunked", "Content-Length: 2"],
    ],
)
async def test_transfer_coding_other_than_chunked_alone(
    service: Service, lines: list[str], audit_lines: AuditLines
) -> None:
    await rejected(service, head(*lines, token=TOKEN) + b"2\r\n{}\r\n0\r\n\r\n")
    assert audit_lines() == []


async def test_chunked_in_capitals_is_accepted(service: Service) -> None:
    async with dial(service) as wire:
        await wire.send(CHUNKED.replace(b"chunked", b"Chunked") + b"2\r\n{}\r\n0\r\n\r\n")
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize("after", [b"{}", b"[]", b"x", b"\r\n{}", b"{}\r\n\r\n", b"\xff"])
async def test_complete_request_is_answered_whatever_follows(
    service: Service, after: bytes, audit_lines: AuditLines
) -> None:
    requests = [
        GET,
        head(token=TOKEN),
        head("Content-Length: 0", token=TOKEN),
        post(b"{}", token=TOKEN),
        CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    ]
    for request in requests:
        async with dial(service) as wire:
            await wire.send(request + after)
            assert (await wire.answer()).status == 200
            wire.end()
            assert (await wire.answer()).code == "INVALID_REQUEST"
            assert await wire.rest() == b""
    assert [line["outcome"] for line in audit_lines()] == ["granted"] * 4


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

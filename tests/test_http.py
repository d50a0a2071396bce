"""Requests that are not well-formed HTTP are rejected with the error envelope."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from rig.service import PATH, Service, sign
from rig.wire import dial, exchange, head, post
from tests.conftest import AuditLines, Serve
from tests.test_contract import assert_envelope

MALFORMED = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "text": b"hello\r\n\r\n",
    "zeros": bytes(100),
    "unknown version": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "invalid method": b"G=T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "method in lower case": head(method="post"),
    "header without a colon": head("Nonsense"),
    "header name with a space": head("A B: c"),
    "header without a name": head(": c"),
    "folded header": head("Authorization: Bearer", " a.b.c"),
    "zero byte in a header": head(b"X-A: a\x00b"),
    "line break in a header": head(b"X-A: a\nX-B: b\r\rX"),
    "invalid length": head("Content-Length: x"),
    "negative length": head("Content-Length: -1"),
    "two lengths": head("Content-Length: 2", "Content-Length: 3") + b"{}",
    "length and chunks": head("Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "unknown coding": head("Transfer-Encoding: nonsense") + b"{}",
    "long line": head(path="/" + "x" * 40000),
    "long header": head("X-A: " + "x" * 40000),
    "many headers": head(*["X-A: b"] * 100),
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "invalid address": head(path="http://[x/healthz"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_request_is_rejected_and_the_connection_closed(
    service: Service, name: str, caplog: pytest.LogCaptureFixture, audit_lines: AuditLines
) -> None:
    caplog.set_level("DEBUG")
    async with dial(service) as wire:
        await wire.send(MALFORMED[name])
        answer = await wire.answer()
        assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
        assert_envelope(answer)
        assert await wire.rest() == b""
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno > 20 or record.exc_info]
    assert audit_lines() == []


async def test_rejection_repeats_nothing_of_the_request(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    token = sign()
    for sent in (
        head(f"Authorization: Bearer {token}", "Nonsense"),
        head(path=f"http://[{token}/"),
        b"Bearer " + token.encode() + b"\r\n\r\n",
    ):
        answer = await exchange(service, sent)
        assert answer.status == 400
        assert token not in str(answer)
    assert token not in caplog.text


NO_MORE = b"\r\n\r\n\x00\r\n\r\n"
"""Ends an incomplete head; as a request, it closes the connection."""


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Yield changed requests and random bytes, the same for each seed."""
    chance = random.Random(seed)
    good = [
        post(b'{"patientContext":{"id":"pt_1"}}', token=sign()),
        head("Transfer-Encoding: chunked", "Content-Type: application/json", token=sign())
        + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        head(method="GET", path="/healthz"),
        head("Content-Length: 0", f"X-Request-ID: {'a' * 64}", path=f"{PATH}?a=%20&b=%zz"),
    ]
    for _ in range(count):
        data = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(data))
            match chance.randrange(5):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randint(1, 20)]
                case 2:
                    data[at:at] = chance.randbytes(chance.randint(1, 20))
                case 3:
                    data[at:at] = chance.choice([b"\r\n", b"\n", b"\x00", b": ", b" ", b"%", b"["])
                case _:
                    data[at:at] = data[: chance.randint(1, 100)]
            data = data or bytearray(b"\n")
        yield bytes(data)
    for _ in range(count // 4):
        yield chance.randbytes(chance.randint(1, 300))


@pytest.mark.parametrize("seed", range(4))
async def test_random_bytes_never_break_the_service(
    serve: Serve, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    service = await serve(
        RATE_LIMIT="off", SESSION_BUDGET_SECONDS="0.5", VAPI_TIMEOUT_SECONDS="0.2"
    )
    answers = 0
    for sent in mutations(seed, 120):
        async with dial(service) as wire:
            await wire.send(sent + NO_MORE)
            answered = await wire.rest()
        answers += bool(answered)
        assert not answered or answered.startswith(b"HTTP/1."), sent
        assert b"HTTP/1.1 5" not in answered, sent
        assert b"HTTP/1.0 5" not in answered, sent
        assert b"Server:" not in answered, sent
    assert answers >= 75  # of 150: one may be lost with a connection that is reset
    assert (await service.start(sign())).status == 200
    assert not [record.getMessage() for record in caplog.records if record.levelno >= 40]


async def test_malformed_request_does_not_affect_other_connections(service: Service) -> None:
    async with dial(service) as good:
        await good.send(post(b"{}", token=sign())[:-2])
        await asyncio.gather(*(exchange(service, sent) for sent in MALFORMED.values()))
        await good.send(b"{}")
        assert (await good.answer()).status == 200

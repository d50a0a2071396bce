"""The request line and the headers are limited to 32 KiB in total."""

import asyncio

import pytest

from rig.service import Service, sign
from rig.wire import WireAnswer, dial, head, post
from tests.conftest import Serve
from tests.test_contract import assert_envelope

LIMIT = 32768
GET = head(method="GET", path="/healthz")


def sized(size: int, *, fields: int = 1, filler: bytes = b"a") -> bytes:
    """Return a head of exactly `size` bytes, its filler divided among header fields."""
    names = [f"X-{number}: ".encode() for number in range(fields)]
    plain = head(*names, method="GET", path="/healthz")
    fill = (filler * size)[: size - len(plain)]
    share = len(fill) // fields
    shares = [fill[: len(fill) - share * (fields - 1)], *[fill[-share:]] * (fields - 1)]
    lines = (name + part for name, part in zip(names, shares, strict=True))
    made = head(*lines, method="GET", path="/healthz")
    assert len(made) == size
    return made


async def answer_to(service: Service, *parts: bytes) -> WireAnswer:
    """Send each part after the server has read the one before; return the first response."""
    async with dial(service) as wire:
        await wire.send_parts(*parts)
        return await wire.answer()


@pytest.mark.parametrize("fields", [1, 5, 60])
async def test_largest_head_is_accepted(service: Service, fields: int) -> None:
    for filler in (b"a", "é".encode(), "😀".encode()):
        assert (await answer_to(service, sized(LIMIT, fields=fields, filler=filler))).status == 200


@pytest.mark.parametrize("fields", [1, 5, 60])
@pytest.mark.parametrize("size", [LIMIT + 1, 40_000, 2_000_000])
async def test_larger_head_is_rejected(service: Service, size: int, fields: int) -> None:
    async with dial(service) as wire:
        sending = asyncio.create_task(wire.send(sized(size, fields=fields)))
        answer = await wire.answer()
        assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
        assert_envelope(answer)
        assert await wire.rest() == b""
        await sending


@pytest.mark.parametrize("piece", [1000, 4095, 4096, 4097, 16384])
@pytest.mark.parametrize(("size", "status"), [(LIMIT, 200), (LIMIT + 1, 400)])
async def test_limit_does_not_depend_on_the_segments(
    service: Service, piece: int, size: int, status: int
) -> None:
    whole = sized(size)
    parts = [whole[start : start + piece] for start in range(0, size, piece)]
    assert (await answer_to(service, *parts)).status == status


async def test_end_of_a_long_head_is_found_across_segments(service: Service) -> None:
    for tail in range(1, 6):
        long = sized(5000)
        assert (await answer_to(service, long[:-tail], long[-tail:])).status == 200
        short = sized(4096 + tail)
        assert (await answer_to(service, short[:4096], short[4096:])).status == 200


CHUNKED = head("Transfer-Encoding: chunked", "Content-Type: application/json", token=sign())


@pytest.mark.parametrize(
    "before",
    [GET, GET * 3, post(b"{}", token=sign()), CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"],
    ids=["GET", "3 GET", "POST", "chunked"],
)
@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize(("size", "status"), [(LIMIT, 200), (LIMIT + 1, 400)])
async def test_each_head_of_a_connection_has_the_limit(
    serve: Serve, before: bytes, size: int, status: int, *, pipelined: bool
) -> None:
    service = await serve(RATE_LIMIT="off")
    requests = before.count(b" HTTP/1.1")
    async with dial(service) as wire:
        if pipelined:
            await wire.send(before + sized(size))
        else:
            await wire.send(before)
        for _ in range(requests):
            assert (await wire.answer()).status == 200
        if not pipelined:
            await wire.send(sized(size))
        assert (await wire.answer()).status == status


@pytest.mark.parametrize("size", [8001, 16_000, LIMIT - 200])
async def test_token_of_any_size_gets_its_own_error(service: Service, size: int) -> None:
    for filler in ("a", "é", "😀"):
        token = (filler * size).encode()[:size]
        answer = await answer_to(service, head(b"Authorization: Bearer " + token))
        assert (answer.status, answer.code) == (401, "AUTH_TOKEN_INVALID")
        assert "Connection" not in answer.headers


@pytest.mark.parametrize("pause", [False, True])
async def test_token_that_fills_the_head_leaves_the_connection_open(
    service: Service, *, pause: bool
) -> None:
    sent = post(b"{}", "Authorization: Bearer " + "a" * (LIMIT - 200))
    head_only, separator, body = sent.partition(b"\r\n\r\n")
    async with dial(service) as wire:
        for _ in range(3):
            if pause:
                await wire.send(head_only + separator)
                answer = await wire.answer()
                await wire.send(body)
            else:
                await wire.send(sent)
                answer = await wire.answer()
            assert (answer.status, answer.code) == (401, "AUTH_TOKEN_INVALID")
            assert "Connection" not in answer.headers


@pytest.mark.parametrize("pause", [False, True])
async def test_only_a_late_body_after_many_large_fields_ends_the_connection(
    service: Service, *, pause: bool
) -> None:
    head_only, separator, body = post(b"{}", *many_fields()).partition(b"\r\n\r\n")
    async with dial(service) as wire:
        if pause:
            await wire.send(head_only + separator)
        else:
            await wire.send(head_only + separator + body)
        assert ((await wire.answer()).headers.get("Connection") == "close") is pause


def many_fields() -> list[str]:
    return [f"X-{number}: {'a' * 300}" for number in range(90)]


@pytest.mark.parametrize("size", [16_384, 16_385, LIMIT])
async def test_large_head_leaves_the_connection_open(service: Service, size: int) -> None:
    async with dial(service) as wire:
        for _ in range(3):
            await wire.send(sized(size) + GET)
            for _ in range(2):
                answer = await wire.answer()
                assert (answer.status, "Connection" in answer.headers) == (200, False)


@pytest.mark.parametrize(
    "sent",
    [
        head("Authorizatión: Bearer x"),
        head("X-A: b", "é: b"),
        head(method="GÉT"),
        head("X-A: " + "a" * 5000, "é: b"),
    ],
)
async def test_field_name_or_method_outside_ascii_is_rejected(
    service: Service, sent: bytes
) -> None:
    assert (await answer_to(service, sent)).code == "INVALID_REQUEST"


async def test_body_outside_ascii_is_untouched(service: Service) -> None:
    body = '{"patientContext": {"id": "pt_1", "name": "Zoë 😀"}}'.encode()
    sent = post(body, "X-A: Zoë " + "a" * 5000, token=sign())
    assert (await answer_to(service, sent)).status == 200
    wrong = post(b'{"patientContext": {"id": "\xff"}}', "X-A: Zoë", token=sign())
    assert (await answer_to(service, wrong)).code == "INVALID_REQUEST"

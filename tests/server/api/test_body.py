"""Reading the request body."""

import gzip

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from middlewares.context import RECEIVING
from middlewares.errors import ApiError
from server.api.body import _parse, read_object

Seen = list[dict[str, object] | ApiError]


async def read(
    body: bytes, max_bytes: int = 100, *, encoding: str = "identity"
) -> dict[str, object] | ApiError:
    """Send a body to a bare application; return the object or the error."""
    seen: Seen = []

    async def handler(request: web.Request) -> web.Response:
        try:
            seen.append(await read_object(request, max_bytes, lambda _: False))
            assert not request.get(RECEIVING)
        except ApiError as error:
            seen.append(error)
        return web.Response()

    app = web.Application()
    app.router.add_post("/", handler)
    async with TestClient(TestServer(app)) as client:
        headers = {"Content-Type": "application/json"}
        if encoding:
            headers["Content-Encoding"] = encoding
        await client.post("/", data=body, headers=headers)
    (result,) = seen
    return result


async def test_irrelevant_numbers_can_have_any_size() -> None:
    assert await read(b'{"a":[8e307,1e999,-0.5],"b":%d}' % 10**60) == {
        "a": [None, None, None],
        "b": 10**60,
    }


@pytest.mark.parametrize("encoding", ["", "Identity", "GZIP"])
async def test_limit_applies_after_decompression(encoding: str) -> None:
    for size in (99, 100, 101):
        body = b"{" + b" " * (size - 2) + b"}"
        sent = gzip.compress(body) if encoding == "GZIP" else body
        result = await read(sent, encoding=encoding)
        if size <= 100:
            assert result == {}
        else:
            assert isinstance(result, ApiError)
            assert (result.code, result.close) == ("PAYLOAD_TOO_LARGE", True)
            assert result.details == "The body is larger than 100 bytes"


async def test_compressed_body_can_be_larger_than_its_content() -> None:
    packed = gzip.compress(b"{}")
    assert len(packed) > 2
    assert await read(packed, 2, encoding="gzip") == {}


def test_wide_is_not_deep() -> None:
    assert _parse(b'{"a":[' + b",".join([b"[{}]"] * 5000) + b"]}")

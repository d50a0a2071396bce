"""Reading the request body."""

import gzip
from contextlib import suppress

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from middlewares.context import RECEIVING
from middlewares.errors import ApiError, ErrorCode
from server.api.body import _parse, read_object
from tests.table import nested

Seen = list[dict[str, object] | ApiError]


async def read(
    body: bytes, max_bytes: int = 100, *, encoding: str = "identity"
) -> dict[str, object] | ApiError:
    """Send a body to a bare application; return the object or the error."""
    seen: Seen = []

    async def handler(request: web.Request) -> web.Response:
        try:
            seen.append(await read_object(request, max_bytes, is_compressed=False))
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


async def test_object_is_returned() -> None:
    assert await read(b'{"a":{"b":[1,null,"\\u00e4"]}}') == {"a": {"b": [1, None, "ä"]}}


async def test_irrelevant_numbers_can_have_any_size() -> None:
    assert await read(b'{"a":[8e307,1e999,-0.5],"b":%d}' % 10**60) == {
        "a": [None, None, None],
        "b": 10**60,
    }


async def test_empty_body_is_an_empty_object() -> None:
    assert await read(b"") == {}


@pytest.mark.parametrize("encoding", ["GZIP", "Identity"])
async def test_content_coding_is_case_insensitive(encoding: str) -> None:
    body = gzip.compress(b"{}") if encoding == "GZIP" else b"{}"
    assert await read(body, encoding=encoding) == {}


@pytest.mark.parametrize("encoding", ["compress", "rot13", "gzip, gzip", "é"])
async def test_unsupported_content_coding(encoding: str) -> None:
    result = await read(b"{}", encoding=encoding)
    assert isinstance(result, ApiError)
    assert result.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("encoding", ["", "identity", "gzip"])
async def test_limit_applies_after_decompression(encoding: str) -> None:
    for size in (99, 100, 101):
        body = b"{" + b" " * (size - 2) + b"}"
        sent = gzip.compress(body) if encoding == "gzip" else body
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


@pytest.mark.parametrize("depth", [1, 2, 31, 32])
def test_allowed_depth(depth: int) -> None:
    assert _parse(nested(depth))


@pytest.mark.parametrize("depth", [33, 34, 200])
def test_excessive_depth(depth: int) -> None:
    with pytest.raises(ApiError) as caught:
        _parse(nested(depth))
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert caught.value.details == "The body is nested deeper than 32 levels"


@pytest.mark.parametrize(
    ("body", "details"),
    [
        (b"{", "The body is not valid JSON in UTF-8"),
        (b"\xff", "The body is not valid JSON in UTF-8"),
        (nested(5000), "The body is not valid JSON in UTF-8"),
        (b"[]", "The body must be a JSON object"),
    ],
)
def test_malformed_body(body: bytes, details: str) -> None:
    with pytest.raises(ApiError) as caught:
        _parse(body)
    assert (caught.value.code, caught.value.details) == (ErrorCode.INVALID_REQUEST, details)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_wide_is_not_deep() -> None:
    assert _parse(b'{"a":[' + b",".join([b"[{}]"] * 5000) + b"]}")


@given(st.binary())
def test_any_bytes_parse_or_are_rejected(body: bytes) -> None:
    with suppress(ApiError):
        assert isinstance(_parse(body), dict)

"""Reading a body: an object or nothing, and no more of it than allowed."""

import gzip
from contextlib import suppress

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from middlewares.api_errors import ApiError, ErrorCode
from middlewares.request_context import RECEIVING
from server.api.request_body import MAX_DEPTH, _parse, read_object
from tests.table import nested

Seen = list[dict[str, object] | ApiError]


async def read(
    body: bytes, max_bytes: int = 100, *, encoding: str = "identity"
) -> dict[str, object] | ApiError:
    """Send a body through a bare application; give what was read, or the refusal."""
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
        await client.post(
            "/",
            data=body,
            headers={"Content-Type": "application/json", "Content-Encoding": encoding},
        )
    (result,) = seen
    return result


async def test_an_object_comes_as_it_was_sent() -> None:
    assert await read(b'{"a":{"b":[1,null,"\\u00e4"]}}') == {"a": {"b": [1, None, "ä"]}}


async def test_numbers_that_nothing_asks_about_may_be_of_any_size() -> None:
    assert await read(b'{"a":[8e307,1e999,-0.5],"b":%d}' % 10**60) == {
        "a": [None, None, None],
        "b": 10**60,
    }


async def test_nothing_is_an_empty_object() -> None:
    assert await read(b"") == {}


@pytest.mark.parametrize("encoding", ["GZIP", "Identity"])
async def test_a_coding_is_known_in_any_letter_case(encoding: str) -> None:
    body = gzip.compress(b"{}") if encoding == "GZIP" else b"{}"
    assert await read(body, encoding=encoding) == {}


@pytest.mark.parametrize("encoding", ["compress", "rot13", "gzip, gzip", "é"])
async def test_a_coding_that_nobody_here_unpacks_is_refused(encoding: str) -> None:
    result = await read(b"{}", encoding=encoding)
    assert isinstance(result, ApiError)
    assert result.code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_the_limit_counts_bytes_after_unpacking(encoding: str) -> None:
    for size in (99, 100, 101):
        body = b"{" + b" " * (size - 2) + b"}"
        sent = gzip.compress(body) if encoding == "gzip" else body
        result = await read(sent, encoding=encoding)
        if size <= 100:
            assert result == {}
        else:
            assert isinstance(result, ApiError)
            assert (result.code, result.close) == ("PAYLOAD_TOO_LARGE", True)


async def test_a_packed_body_may_be_larger_than_what_it_unpacks_to() -> None:
    packed = gzip.compress(b"{}")
    assert len(packed) > 2
    assert await read(packed, 2, encoding="gzip") == {}


@pytest.mark.parametrize("depth", [1, 2, MAX_DEPTH - 1, MAX_DEPTH])
def test_containers_may_nest_so_deep(depth: int) -> None:
    assert _parse(nested(depth))


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, MAX_DEPTH + 2, 200, 5000])
def test_containers_may_nest_no_deeper(depth: int) -> None:
    with pytest.raises(ApiError) as caught:
        _parse(nested(depth))
    assert caught.value.code == "INVALID_REQUEST"


def test_many_containers_side_by_side_are_not_deep() -> None:
    assert _parse(b'{"a":[' + b",".join([b"[{}]"] * 5000) + b"]}")


@given(st.binary())
def test_no_bytes_do_anything_but_parse_or_be_refused(body: bytes) -> None:
    with suppress(ApiError):
        assert isinstance(_parse(body), dict)

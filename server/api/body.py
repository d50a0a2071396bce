"""Reads the request body: a JSON object of limited size and depth, or nothing."""

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from middlewares.context import RECEIVING
from middlewares.errors import ApiError, ErrorCode
from server.auth.tokens import decode_json

_WINDOWS: Final[Mapping[str, int]] = {
    "gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}


class DecompressionError(Exception):
    """The data is not valid for its content coding."""


class Decompressor:
    """Decompresses one body chunk by chunk, without buffering compressed data.

    `window` is zlib's window parameter; it selects the container format.
    """

    def __init__(self, window: int) -> None:
        self._stream = zlib.decompressobj(window)

    def decompress(self, chunk: bytes, max_bytes: int) -> bytes:
        """Return at most `max_bytes` of decompressed data. Raises `DecompressionError`."""
        try:
            return self._stream.decompress(chunk, max_bytes)
        except zlib.error as error:
            raise DecompressionError from error

    def finish(self) -> None:
        """Raise `DecompressionError` if the body is incomplete or has trailing data."""
        if not self._stream.eof or self._stream.unused_data:
            raise DecompressionError


def make_decompressor(codings: Sequence[str]) -> Decompressor | None:
    """Return the decompressor for these `Content-Encoding` values; None for an uncompressed body.

    Raises `ApiError` INVALID_REQUEST for an unsupported coding.
    """
    named = [coding.strip().lower() for coding in codings]
    if named in ([], ["identity"]):
        return None
    if len(named) == 1 and named[0] in _WINDOWS:
        return Decompressor(_WINDOWS[named[0]])
    raise ApiError(
        ErrorCode.INVALID_REQUEST, "The content coding is not supported; use gzip or deflate"
    )


MAX_DEPTH: Final = 32

_JSON_TYPE: Final = re.compile(r"application/json *(;.*)?", re.IGNORECASE)
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]*)", re.IGNORECASE)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_Container = dict[str, object] | list[object]


async def defer_continue(_: web.Request) -> None:
    """Do not answer `Expect: 100-continue` yet; `read_object` does when it reads the body."""


async def read_object(
    request: web.Request, max_bytes: int, is_compressed: Callable[[web.Request], bool]
) -> dict[str, object]:
    """Return the JSON object of the body; an absent or empty body is an empty object.

    `is_compressed` returns whether a body with a content coding still has to be decompressed.

    Raises `ApiError`: PAYLOAD_TOO_LARGE over `max_bytes` (after decompression),
    UNSUPPORTED_MEDIA_TYPE for a media type other than JSON, INVALID_REQUEST if the body cannot be
    decompressed, is not a JSON object in UTF-8, or is nested deeper than `MAX_DEPTH`.
    """
    if not request.body_exists:
        return {}
    if _has_arrived(request):
        if request.content.total_bytes > max_bytes:
            raise _too_large(max_bytes)
        return _parse_typed(request, request.content.read_nowait())
    decompressor = make_decompressor(request.headers.getall(hdrs.CONTENT_ENCODING, ()))
    declared = request.content_length
    if declared and hdrs.CONTENT_ENCODING not in request.headers:
        if declared > max_bytes:
            raise _too_large(max_bytes)
        _check_type(request)
    if decompressor and not is_compressed(request):
        decompressor = None
    body = await _receive(request, decompressor, max_bytes)
    return _parse_typed(request, body)


def _has_arrived(request: web.Request) -> bool:
    """Return whether the whole body has been received, uncompressed: it can be read at once."""
    content, headers = request.content, request.headers
    return (
        content.is_eof()
        and content.exception() is None
        and hdrs.CONTENT_ENCODING not in headers
        and hdrs.EXPECT not in headers
    )


def _parse_typed(request: web.Request, body: bytes) -> dict[str, object]:
    if not body:
        return {}
    _check_type(request)
    return _parse(body)


async def _receive(
    request: web.Request, decompressor: Decompressor | None, max_bytes: int
) -> bytes:
    expects = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if expects and request.version >= HttpVersion11:
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0  # nothing of the response has been sent
    body = bytearray()
    request[RECEIVING] = True
    try:
        while chunk := await request.content.readany():
            body += decompressor.decompress(chunk, max_bytes + 1) if decompressor else chunk
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
        if decompressor:
            decompressor.finish()
    except (web.RequestPayloadError, ConnectionError, DecompressionError) as error:
        details = "The body is incomplete or cannot be decompressed"
        raise ApiError(ErrorCode.INVALID_REQUEST, details, close=True) from error
    request[RECEIVING] = False
    return bytes(body)


def _check_type(request: web.Request) -> None:
    types = request.headers.getall(hdrs.CONTENT_TYPE, ())
    if len(types) != 1 or not _is_json(types[0]):
        details = "Send the body as Content-Type: application/json, in UTF-8"
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, details)


@lru_cache(maxsize=64)
def _is_json(media_type: str) -> bool:
    """Return whether a media type is JSON in UTF-8. Cached: clients send few different ones."""
    charset = _CHARSET.search(media_type)
    is_utf8 = charset is None or charset[1].lower() == "utf-8"
    return is_utf8 and _JSON_TYPE.fullmatch(media_type) is not None


def _parse(body: bytes) -> dict[str, object]:
    try:
        value = _read_json(body)
    except (ValueError, RecursionError):
        raise _malformed("The body is not valid JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise _malformed("The body must be a JSON object")
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:  # else it cannot be nested deeper
        _check_depth(value)
    return value


# `int` rejects NaN and Infinity, which are not JSON.
_decode_in_python: Final = json.JSONDecoder(
    parse_constant=int, parse_int=lambda _: None, parse_float=lambda _: None
).decode


def _read_json(body: bytes) -> object:
    """Read JSON (RFC 8259). Raises ValueError or RecursionError.

    Python reads what msgspec rejects and JSON permits: an escaped surrogate without its pair, as
    apps write for a text that was cut, and integers of thousands of digits, which become None.
    """
    try:
        return decode_json(body)
    except ValueError:
        return _decode_in_python(body.decode())


def _check_depth(value: dict[str, object]) -> None:
    """Check the depth level by level, without recursion."""
    level: list[_Container] = [value]
    for _ in range(MAX_DEPTH):
        level = [child for container in level for child in _containers_in(container)]
        if not level:
            return
    raise _malformed(f"The body is nested deeper than {MAX_DEPTH} levels")


def _containers_in(container: _Container) -> list[_Container]:
    children = container.values() if isinstance(container, dict) else container
    return [child for child in children if isinstance(child, dict | list)]


def _malformed(details: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_REQUEST, details)


def _too_large(max_bytes: int) -> ApiError:
    details = f"The body is larger than {max_bytes} bytes"
    return ApiError(ErrorCode.PAYLOAD_TOO_LARGE, details, close=True)

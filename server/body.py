"""Reads a request's body as the JSON object it must be, and no more of it than it may be."""

import re
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.context import RECEIVING
from middlewares.untrusted import decode_json
from server.connection import Connection
from server.unpacking import DoesNotUnpack, Unpacker, make_unpacker

MAX_DEPTH: Final = 32

_JSON_TYPE: Final = re.compile(r"application/json *(;.*)?", re.IGNORECASE)
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]*)", re.IGNORECASE)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_Container = dict[str, object] | list[object]


async def wait_to_continue(_: web.Request) -> None:
    """Answer no `Expect: 100-continue` yet: `read_object` does, once the body is wanted."""


async def read_object(request: web.Request, max_bytes: int) -> dict[str, object]:
    """Read the body: a JSON object, or nothing at all, which counts as an empty one.

    Raises `ApiError`: PAYLOAD_TOO_LARGE over `max_bytes` (counted after unpacking),
    UNSUPPORTED_MEDIA_TYPE for anything not declared JSON, INVALID_REQUEST for what does not unpack,
    is no UTF-8 JSON object, or nests deeper than `MAX_DEPTH`.
    """
    if not request.body_exists:
        return {}
    unpacker = make_unpacker(request.headers.getall(hdrs.CONTENT_ENCODING, ()))
    declared = request.content_length
    if declared and hdrs.CONTENT_ENCODING not in request.headers:
        if declared > max_bytes:
            raise _too_large(max_bytes)
        _check_type(request)
    is_packed = isinstance(request.protocol, Connection)  # a host has it unpacked by aiohttp
    body = await _receive(request, unpacker if is_packed else None, max_bytes)
    if not body:
        return {}
    _check_type(request)
    return _parse(body)


async def _receive(request: web.Request, unpacker: Unpacker | None, max_bytes: int) -> bytes:
    expects = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if expects and request.version >= HttpVersion11:
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0  # nothing of the answer itself has been sent
    body = bytearray()
    request[RECEIVING] = True
    try:
        while chunk := await request.content.readany():
            body += unpacker.unpack(chunk, max_bytes + 1) if unpacker else chunk
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
        if unpacker:
            unpacker.finish()
    except (web.RequestPayloadError, ConnectionError, DoesNotUnpack) as error:
        details = "The body does not unpack, or ended too early"
        raise ApiError(ErrorCode.INVALID_REQUEST, details, close=True) from error
    request[RECEIVING] = False
    return bytes(body)


def _check_type(request: web.Request) -> None:
    types = request.headers.getall(hdrs.CONTENT_TYPE, ())
    charset = _CHARSET.search(types[0]) if types else None
    is_json = len(types) == 1 and _JSON_TYPE.fullmatch(types[0])
    if not is_json or (charset and charset[1].lower() != "utf-8"):
        details = "Send the body as Content-Type: application/json, in UTF-8"
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, details)


def _parse(body: bytes) -> dict[str, object]:
    try:
        value = decode_json(body)
    except (ValueError, RecursionError):
        raise _malformed("The body is not valid JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise _malformed("The body must be a JSON object")
    _check_depth(value)
    return value


def _check_depth(value: dict[str, object]) -> None:
    """Walk level by level, so that no nesting makes us nest."""
    level: list[_Container] = [value]
    for _ in range(MAX_DEPTH):
        level = [child for container in level for child in _containers_in(container)]
        if not level:
            return
    raise _malformed(f"The body nests deeper than {MAX_DEPTH} levels")


def _containers_in(container: _Container) -> list[_Container]:
    children = container.values() if isinstance(container, dict) else container
    return [child for child in children if isinstance(child, dict | list)]


def _malformed(details: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_REQUEST, details)


def _too_large(max_bytes: int) -> ApiError:
    details = f"The body may hold {max_bytes} bytes at most"
    return ApiError(ErrorCode.PAYLOAD_TOO_LARGE, details, close=True)

"""Decompression of request bodies (RFC 9110 section 8.4.1): gzip and deflate, with checksums."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from middlewares.api_errors import ApiError, ErrorCode

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

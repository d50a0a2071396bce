"""Unpacks bodies that come compressed (RFC 9110 section 8.4.1): gzip and deflate, checked."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from middlewares.catalogue import ApiError, ErrorCode

_WINDOWS: Final[Mapping[str, int]] = {
    "gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}


class DoesNotUnpack(Exception):
    """What came is not what its coding says."""


class Unpacker:
    """Unpacks one body, piece by piece; what is left to unpack is never held.

    `window` is zlib's: it says how the data is wrapped.
    """

    def __init__(self, window: int) -> None:
        self._stream = zlib.decompressobj(window)

    def unpack(self, piece: bytes, most: int) -> bytes:
        """Give what a piece unpacks to, `most` bytes at most. Raises `DoesNotUnpack`."""
        try:
            return self._stream.decompress(piece, most)
        except zlib.error as error:
            raise DoesNotUnpack from error

    def finish(self) -> None:
        """Raise `DoesNotUnpack` unless the end came, checksum and all, and nothing after it."""
        if not self._stream.eof or self._stream.unused_data:
            raise DoesNotUnpack


def make_unpacker(codings: Sequence[str]) -> Unpacker | None:
    """Make what unpacks a body with these `Content-Encoding` headers; None for one that is plain.

    Raises `ApiError` INVALID_REQUEST for a coding that nobody here unpacks.
    """
    named = [coding.strip().lower() for coding in codings]
    if named in ([], ["identity"]):
        return None
    if len(named) == 1 and named[0] in _WINDOWS:
        return Unpacker(_WINDOWS[named[0]])
    raise ApiError(ErrorCode.INVALID_REQUEST, "The body is packed in a way that is not known here")

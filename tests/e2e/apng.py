"""Joins screenshots to an animated PNG (APNG), which browsers and code hosts show like any PNG."""

import struct
import zlib
from collections.abc import Iterator, Sequence

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def animated_png(frames: Sequence[tuple[bytes, int]]) -> bytes:
    """Return the animation of PNG files of one size, each with its milliseconds; it repeats."""
    first = dict(_chunks(frames[0][0]))
    width, height = struct.unpack(">II", first[b"IHDR"][:8])
    parts = [_SIGNATURE, _chunk(b"IHDR", first[b"IHDR"])]
    parts.append(_chunk(b"acTL", struct.pack(">II", len(frames), 0)))
    number = 0
    for index, (png, milliseconds) in enumerate(frames):
        control = struct.pack(">5I2H2B", number, width, height, 0, 0, milliseconds, 1000, 0, 0)
        parts.append(_chunk(b"fcTL", control))
        number += 1
        data = b"".join(content for kind, content in _chunks(png) if kind == b"IDAT")
        if index == 0:
            parts.append(_chunk(b"IDAT", data))
        else:
            parts.append(_chunk(b"fdAT", struct.pack(">I", number) + data))
            number += 1
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_SIGNATURE)
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        yield png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        place += 12 + length


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

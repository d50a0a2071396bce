"""Decompression of bodies: complete and limited."""

import gzip
import zlib

import pytest

from server.api.body import DecompressionError, Decompressor, make_decompressor

PLAIN = b'{"patientContext":{"id":"pt_1"}}' + b" " * 500


def made(coding: str) -> Decompressor:
    """Return the decompressor of a supported coding."""
    decompressor = make_decompressor([coding])
    assert decompressor is not None
    return decompressor


def whole(coding: str, compressed: bytes) -> bytes:
    """Decompress a body byte by byte."""
    decompressor = made(coding)
    plain = b"".join(
        decompressor.decompress(compressed[at : at + 1], 10_000) for at in range(len(compressed))
    )
    decompressor.finish()
    return plain


@pytest.mark.parametrize(
    ("coding", "compressed"),
    [("gzip", gzip.compress(PLAIN)), (" Deflate ", zlib.compress(PLAIN))],
    ids=["gzip", "deflate"],  # gzip data contains its time
)
def test_round_trip(coding: str, compressed: bytes) -> None:
    assert whole(coding, compressed) == PLAIN


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("missing", [1, 4, 8, 12])
def test_truncated_body(coding: str, missing: int) -> None:
    compressed = gzip.compress(PLAIN) if coding == "gzip" else zlib.compress(PLAIN)
    with pytest.raises(DecompressionError):
        whole(coding, compressed[:-missing])


@pytest.mark.parametrize(
    "compressed",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x1f\x8b", id="a beginning"),
        pytest.param(b"no gzip", id="something else"),
        pytest.param(zlib.compress(PLAIN), id="another container"),
        pytest.param(gzip.compress(PLAIN) + b"x", id="more than a body"),
        pytest.param(gzip.compress(PLAIN)[:-8] + b"\0" * 8, id="another body's checksum"),
    ],
)
def test_invalid_gzip(compressed: bytes) -> None:
    with pytest.raises(DecompressionError):
        whole("gzip", compressed)
